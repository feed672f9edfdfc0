"""The plant: replicas, queue, latency and reward of a service behind an autoscaler.

`Simulation` is the whole environment without Gymnasium's overhead: N episodes in lockstep on given traces.
The functions above it are its formulas, pure and element-wise. The constants are frozen (DESIGN, section 5).

Order of events in a step: pods whose three steps are over become ready; the action is applied; the step's
arrivals are served by what is ready; the reward is about that same step. Readings lag one step behind:
what the agent sees after step t are step t-1's utilisation, rate, queue and p95, with the present replicas.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners.cloud.workload import DAY_STEPS, LEAD_STEPS, STEP_S, Traces

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SERVICE_RATE_RPS: Final = 50.0
REPLICAS_MIN: Final = 1
REPLICAS_MAX: Final = 32
REPLICAS_START: Final = 8
PENDING_STEPS: Final = 3
QUEUE_LIMIT_S: Final = 4.0
RHO_MAX: Final = 0.98
SLO_S: Final = 0.25

REWARD_SCALE: Final = 2.6
"""The reward is this times the return that reports quote."""
THROUGHPUT_WEIGHT: Final = 1.25
COST_WEIGHT: Final = 0.9
REWARD_TERMS: Final = ("throughput", "latency", "cost")

ACTION_CHANGES: Final = (-2, -1, 0, 1, 2)
ACTION_NAMES: Final = tuple(f"{change:+d}" if change else "0" for change in ACTION_CHANGES)
ACTION_ZERO: Final = 2

FRAMES: Final = 4
FEATURE_NAMES: Final = ("utilisation", "rate", "log_queue", "p95", "ready", "pending", "day_sin", "day_cos")
FEATURES: Final = len(FEATURE_NAMES)
FRAME_SUFFIXES: Final = ("_t-3", "_t-2", "_t-1", "_t")
OBSERVATION_NAMES: Final = tuple(f"{name}{suffix}" for suffix in FRAME_SUFFIXES for name in FEATURE_NAMES)
FEATURE_LOW: Final = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0)
FEATURE_HIGH: Final = (1.5, 10.0, 1.5, 4.0, 1.0, 1.0, 1.0, 1.0)

RATE_UNIT_RPS: Final = 500.0
LOG_QUEUE_UNIT: Final = 10.0
FEATURE_SCALES: Final = (1.0, RATE_UNIT_RPS, LOG_QUEUE_UNIT, SLO_S * 1000.0, REPLICAS_MAX, REPLICAS_MAX, 1.0, 1.0)
FEATURE_UNITS: Final = ("share", "requests/s", "ln(1 + requests)", "ms", "replicas", "replicas", "", "")
"""A feature times its scale is a number in its unit: .6 of `rate` is 300 requests/s."""
UTILISATION_KEEP: Final = 0.6
UTILISATION_NOISE: Final = 0.03
RATE_NOISE: Final = 0.05
QUEUE_NOISE: Final = 0.15
P95_NOISE: Final = 0.10

UTILISATION, RATE, LOG_QUEUE, P95, READY, PENDING, DAY_SIN, DAY_COS = range(FEATURES)


def scale(ready: IntArray, pending: IntArray, change: IntArray) -> tuple[IntArray, IntArray]:
    """Move pods one step on, then apply the agent's change of replicas, -2 to +2; returns the new ready and pending.

    ready: int64[N], replicas that serve, 1-32. pending: int64[3, N], pods by age, the oldest first. What would leave
    1-32 replicas is cut off. Scaling down cancels the youngest pending pods before it stops a ready one.
    """
    ready = ready + pending[0]
    oldest, middle = pending[1], pending[2]
    added = np.minimum(np.maximum(change, 0), REPLICAS_MAX - ready - oldest - middle)
    removed = np.maximum(-change, 0)
    cut_middle = np.minimum(removed, middle)
    removed = removed - cut_middle
    cut_oldest = np.minimum(removed, oldest)
    ready = np.maximum(ready - (removed - cut_oldest), REPLICAS_MIN)
    return ready, np.stack([oldest - cut_oldest, middle - cut_middle, added])


def serve(arrivals_rps: FloatArray, capacity_rps: FloatArray, queue: FloatArray) -> tuple[FloatArray, FloatArray]:
    """One step of the fluid queue: the requests in it at the end, and the share of the arrivals that was dropped.

    What the queue holds beyond 4 s of capacity is dropped.
    """
    queued = np.maximum(0.0, queue + (arrivals_rps - capacity_rps) * STEP_S)
    kept = np.minimum(queued, QUEUE_LIMIT_S * capacity_rps)
    # At least one request, so that an idle step divides by no zero.
    dropped = np.minimum(1.0, (queued - kept) / np.maximum(arrivals_rps * STEP_S, 1.0))
    return kept, dropped


def p95_s(
    arrivals_rps: FloatArray, ready: FloatArray, rtt_s: FloatArray, queue_before: FloatArray, queue_after: FloatArray
) -> FloatArray:
    """95th percentile of the latency, seconds.

    Two round trips, three service times (the 95th percentile of an exponential), the tail of an M/M/c queue
    with Sakasegawa's probability of waiting rho^(sqrt(2(c+1)) - 1), and the mean backlog.

    Source: Sakasegawa (1977), An approximation formula L_q = a * rho^b / (1 - rho).
    """
    capacity = ready * SERVICE_RATE_RPS
    rho = np.minimum(arrivals_rps / capacity, RHO_MAX)
    waiting = np.power(rho, np.sqrt(2.0 * (ready + 1.0)) - 1.0)
    # Below .05 nobody at the 95th percentile waits: ln(1) = 0.
    tail = 4.0 * np.log(np.maximum(waiting, 0.05) / 0.05) / (capacity * (1.0 - rho))
    backlog = (queue_before + queue_after) / (2.0 * capacity)
    latency: FloatArray = 2.0 * rtt_s + 3.0 / SERVICE_RATE_RPS + tail + backlog
    return latency


def reward_terms(
    dropped: FloatArray, latency_s: FloatArray, replicas: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Throughput (>= 0), latency (<= 0) and cost (<= 0); their sum is the reward."""
    throughput = REWARD_SCALE * THROUGHPUT_WEIGHT * (1.0 - dropped)
    latency = -REWARD_SCALE * np.minimum(np.maximum(latency_s / SLO_S - 1.0, 0.0), 1.0)
    cost = (-REWARD_SCALE * COST_WEIGHT / REPLICAS_MAX) * replicas
    return throughput, latency, cost


class Simulation:
    """N episodes of T steps in lockstep: the fast path for training and evaluation.

    Of the last step (of the start before the first): ready, pending: int64[N], int64[3, N] (the oldest first),
    replicas. queue: float64[N], requests waiting at its end. arrivals_rps: float64[N], what reached the service.
    latency_s: float64[N], 95th percentile. dropped: float64[N], share of the arrivals. step_index: steps done, 0 to T.
    """

    def __init__(self, traces: Traces) -> None:
        self._load(traces)
        self.reset()

    def reset(self) -> NDArray[np.float32]:
        """Start over; returns the first observation, float32[N, 32]."""
        self.step_index = 0
        self.ready = np.full(self.count, REPLICAS_START, dtype=np.int64)
        self.pending = np.zeros((PENDING_STEPS, self.count), dtype=np.int64)
        self._utilisation = np.minimum(self._arrivals[0] / (REPLICAS_START * SERVICE_RATE_RPS), 1.0)
        self._frames = self._exogenous.copy()
        for column in range(LEAD_STEPS):
            self.queue = np.zeros(self.count)
            self._serve(column)
        # The episode starts with an empty queue: the steps before it are only there to be read.
        self.queue = np.zeros(self.count)
        self._write_replicas(0, self.ready)
        self._frames[:, : FRAMES - 1] = self._frames[:, FRAMES - 1, None]
        return self.observation()

    def step(self, actions: NDArray[np.integer]) -> tuple[NDArray[np.float32], FloatArray, FloatArray, bool]:
        """One step of all episodes by actions 0-4, for -2 to +2 replicas, which are not checked.

        Returns obs float32[N, 32], reward float64[N], reward terms float64[N, 3] (in the order of REWARD_TERMS), and
        whether the episodes have reached their last step.
        """
        change = np.asarray(actions, dtype=np.int64) - ACTION_ZERO
        self.ready, self.pending = scale(self.ready, self.pending, change)
        self._serve(self.step_index + LEAD_STEPS)
        replicas = self.ready + self.pending.sum(axis=0)
        terms = np.stack(reward_terms(self.dropped, self.latency_s, replicas), axis=1)
        self.step_index += 1
        self._write_replicas(self.step_index, replicas)
        reward = terms[:, 0] + terms[:, 1] + terms[:, 2]
        return self.observation(), reward, terms, self.step_index >= self.steps

    def _load(self, traces: Traces) -> None:
        """Lay the traces out by time, contiguous, so that a step reads no stride."""
        self.count, self.steps = len(traces), traces.steps
        self._arrivals = np.ascontiguousarray(traces.arrivals_rps.T)
        self._rtt_s = np.ascontiguousarray(traces.rtt_s.T)
        noise = traces.noise
        self._utilisation_noise = np.ascontiguousarray(UTILISATION_NOISE * noise[:, :, 0].T)
        self._queue_factor = np.ascontiguousarray(np.maximum(1 + QUEUE_NOISE * noise[:, :, 2].T, 0.0))
        self._p95_factor = np.ascontiguousarray(np.maximum(1 + P95_NOISE * noise[:, :, 3].T, 0.0))
        self._exogenous = _exogenous_frames(traces)

    def _serve(self, column: int) -> None:
        """Serve a column's arrivals, and write its readings where they are seen: two frames on."""
        self.arrivals_rps = self._arrivals[column]
        ready = self.ready.astype(np.float64)
        capacity = ready * SERVICE_RATE_RPS
        queue_before = self.queue
        self.queue, self.dropped = serve(self.arrivals_rps, capacity, queue_before)
        self.latency_s = p95_s(self.arrivals_rps, ready, self._rtt_s[column], queue_before, self.queue)
        busy = np.minimum(self.arrivals_rps / capacity, 1.0)
        self._utilisation = UTILISATION_KEEP * self._utilisation + (1 - UTILISATION_KEEP) * busy
        self._write_readings(column)

    def _write_readings(self, column: int) -> None:
        frame = self._frames[:, column + FRAMES - 1]
        utilisation = self._utilisation + self._utilisation_noise[column]
        log_queue = np.log1p(self.queue * self._queue_factor[column]) / LOG_QUEUE_UNIT
        p95 = self.latency_s * self._p95_factor[column] / SLO_S
        frame[:, UTILISATION] = np.minimum(np.maximum(utilisation, 0.0), FEATURE_HIGH[UTILISATION])
        frame[:, LOG_QUEUE] = np.minimum(log_queue, FEATURE_HIGH[LOG_QUEUE])
        frame[:, P95] = np.minimum(p95, FEATURE_HIGH[P95])

    def _write_replicas(self, frame_index: int, replicas: IntArray) -> None:
        frame = self._frames[:, frame_index + FRAMES - 1]
        frame[:, READY] = self.ready / REPLICAS_MAX
        frame[:, PENDING] = (replicas - self.ready) / REPLICAS_MAX

    def observation(self) -> NDArray[np.float32]:
        """The last four frames, oldest first, in memory of their own."""
        frames = self._frames[:, self.step_index : self.step_index + FRAMES]
        return frames.copy().reshape(self.count, FRAMES * FEATURES)


def _exogenous_frames(traces: Traces) -> NDArray[np.float32]:
    """What of the observations no action changes: float32[N, 3 + C, 8], frame f in row f + 3.

    Frame f is seen before step f. Its readings are about column f, which is step f - 2.
    """
    columns = traces.rate_rps.shape[1]
    frames = np.zeros((len(traces), FRAMES - 1 + columns, FEATURES), dtype=np.float32)
    seen = frames[:, FRAMES - 1 :]
    measured = traces.requests / STEP_S * (1 + RATE_NOISE * traces.noise[:, :, 1])
    seen[:, :, RATE] = np.clip(measured / RATE_UNIT_RPS, 0.0, FEATURE_HIGH[RATE])
    angle = 2 * np.pi * (traces.phase[:, None] + np.arange(columns) / DAY_STEPS)
    seen[:, :, DAY_SIN] = np.sin(angle)
    seen[:, :, DAY_COS] = np.cos(angle)
    return frames
