"""The plant: formulas by hand, pods, the order of events in a step, lagged readings."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from headrace.learners.cloud import OBSERVATION_NAMES, Simulation, draw_traces, plant
from headrace.learners.cloud.plant import (
    DAY_COS,
    DAY_SIN,
    FEATURES,
    LOG_QUEUE,
    P95,
    PENDING,
    RATE,
    READY,
    UTILISATION,
)

HOLD, UP, DOWN = 2, 4, 0


def newest(obs):
    return obs[:, -FEATURES:]


def constant_load(count=1, rate_rps=300.0, steps=100):
    """A noiseless trace: 300 requests a second, round trip 20 ms, no loss, midnight."""
    traces = draw_traces(0, count, steps)
    full = np.full_like(traces.rate_rps, rate_rps)
    return replace(
        traces,
        requests=np.full_like(traces.requests, int(rate_rps * 30)),
        arrivals_rps=full,
        rtt_s=np.full_like(full, 0.02),
        phase=np.zeros(count),
        noise=np.zeros_like(traces.noise),
    )


def test_queue_and_drops_by_hand():
    arrivals = np.array([300.0, 410.0, 500.0, 300.0, 200.0, 0.0])
    capacity = np.array([400.0, 400.0, 400.0, 400.0, 200.0, 50.0])
    before = np.array([0.0, 0.0, 0.0, 1000.0, 1600.0, 0.0])
    queue, dropped = plant.serve(arrivals, capacity, before)
    # 500/s on 400/s leaves 3,000, of which 4 s * 400 stay and 1,400 of 15,000 are dropped;
    # after scaling down, 1,600 no longer fit 4 s * 200, and 800 of 6,000 are dropped
    assert_allclose(queue, [0, 300, 1600, 0, 800, 0])
    assert_allclose(dropped, [0, 0, 1400 / 15000, 0, 800 / 6000, 0])


def test_drops_never_exceed_the_arrivals():
    _, dropped = plant.serve(np.array([60.0]), np.array([50.0]), np.array([6400.0]))
    assert_allclose(dropped, [1.0])


def test_p95_by_hand():
    latency = plant.p95_s(
        arrivals_rps=np.array([300.0, 200.0, 100.0]),
        ready=np.array([8.0, 16.0, 1.0]),
        rtt_s=np.array([0.02, 0.02, 0.015]),
        queue_before=np.array([0.0, 0.0, 0.0]),
        queue_after=np.array([0.0, 0.0, 200.0]),
    )
    # .04 + .06 + 4 * ln(.75^3.242641 / .05) / (400 * .25); waiting under 5 %: no tail;
    # .03 + .06 + 4 * ln(.98 / .05) / (50 * .02) + 200 / (2 * 50)
    assert_allclose(latency, [0.182515, 0.1, 13.992118], rtol=1e-5)


def test_reward_terms_by_hand():
    dropped, latency_s, replicas = (
        np.array([0.0, 0.1, 1.0]),
        np.array([0.25, 0.375, 9.0]),
        np.array([16, 8, 32]),
    )
    throughput, latency, cost = plant.reward_terms(dropped, latency_s, replicas)
    assert_allclose(throughput, [3.25, 2.925, 0.0])
    assert_allclose(latency, [0.0, -1.3, -2.6])
    assert_allclose(cost, [-1.17, -0.585, -2.34])


def pods(ready, pending, change):
    after, aged = plant.scale(np.array([ready]), np.array(pending)[:, None], np.array([change]))
    return int(after[0]), aged[:, 0].tolist()


def test_scaling_by_hand():
    assert pods(8, [0, 0, 0], 2) == (8, [0, 0, 2])
    assert pods(8, [2, 1, 0], 0) == (10, [1, 0, 0])
    assert pods(8, [0, 2, 1], -2) == (8, [1, 0, 0])  # the youngest first, then the older
    assert pods(8, [0, 0, 1], -2) == (7, [0, 0, 0])  # then a ready one
    assert pods(8, [1, 0, 0], -1) == (8, [0, 0, 0])  # what has become ready is ready
    assert pods(1, [0, 0, 0], -2) == (1, [0, 0, 0])
    assert pods(29, [0, 1, 1], 2) == (29, [1, 1, 1])  # 32 at most, pending included


def test_new_pods_are_pending_for_three_steps():
    simulation = Simulation(constant_load())
    course = []
    for action in (UP, HOLD, HOLD, HOLD, HOLD):
        simulation.step(np.array([action]))
        course.append((int(simulation.ready[0]), int(simulation.pending.sum())))
    assert course == [(8, 2), (8, 2), (8, 2), (10, 0), (10, 0)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-2, 2), min_size=1, max_size=60))
def test_replicas_stay_in_bounds_and_change_as_told(changes):
    ready, pending = np.array([8]), np.zeros((3, 1), dtype=np.int64)
    for change in changes:
        before = int(ready[0] + pending.sum())
        ready, pending = plant.scale(ready, pending, np.array([change]))
        total = int(ready[0] + pending.sum())
        assert 1 <= ready[0] <= 32
        assert pending.min() >= 0
        assert total == min(max(before + change, 1), 32)


@settings(max_examples=60, deadline=None)
@given(arrivals=st.floats(0, 6000), ready=st.integers(1, 32), queue=st.floats(0, 6400), more=st.floats(0, 1000))
def test_a_queue_never_helps(arrivals, ready, queue, more):
    """What makes the planner's bound a bound: reward falls with the queue at the step's start."""

    def reward(before):
        load, serving = np.array([arrivals]), np.array([float(ready)])
        after, dropped = plant.serve(load, serving * 50, np.array([before]))
        latency_s = plant.p95_s(load, serving, np.array([0.02]), np.array([before]), after)
        return sum(plant.reward_terms(dropped, latency_s, serving))[0]

    assert reward(queue + more) <= reward(queue) + 1e-9


def test_a_steady_step_by_hand():
    simulation = Simulation(constant_load())
    for _ in range(5):
        obs, reward, terms, _ = simulation.step(np.array([HOLD]))
    assert_allclose(terms, [[3.25, 0.0, -2.6 * 0.9 * 8 / 32]])
    assert_allclose(reward, [3.25 - 0.585])
    frame = newest(obs)[0]
    day = 2 * np.pi * 5 / 240
    expected = {UTILISATION: 0.75, RATE: 0.6, LOG_QUEUE: 0.0, P95: 0.182515 / 0.25, READY: 0.25, PENDING: 0.0}
    for feature, value in (expected | {DAY_SIN: np.sin(day), DAY_COS: np.cos(day)}).items():
        assert_allclose(frame[feature], value, rtol=1e-5, atol=1e-7)


def test_readings_lag_one_step_and_replicas_do_not():
    """A jump in step 0 is seen after step 1; the pods asked for in step 0 are seen at once."""
    calm = constant_load()
    load, requests = calm.arrivals_rps.copy(), calm.requests.copy()
    load[:, 2:] *= 2  # column 2 is step 0
    requests[:, 2:] *= 2
    simulation = Simulation(replace(calm, arrivals_rps=load, requests=requests))
    first, _, _, _ = simulation.step(np.array([UP]))
    second, _, _, _ = simulation.step(np.array([HOLD]))
    assert_allclose(newest(first)[0, [UTILISATION, RATE, LOG_QUEUE]], [0.75, 0.6, 0], rtol=1e-6)
    assert_allclose(newest(first)[0, PENDING], 2 / 32)
    # moving average .6 * .75 + .4 * 1; 600/s on 400/s fill the queue to 1,600
    assert_allclose(newest(second)[0, [UTILISATION, RATE]], [0.85, 1.2], rtol=1e-6)
    assert_allclose(newest(second)[0, LOG_QUEUE], np.log(1601) / 10, rtol=1e-6)


def test_frames_are_stacked_oldest_first():
    simulation = Simulation(draw_traces(2, 3))
    first = simulation.observation()
    for frame in range(3):
        assert_array_equal(first[:, frame * FEATURES : (frame + 1) * FEATURES], newest(first))
    second, *_ = simulation.step(np.full(3, UP))
    assert_array_equal(second[:, :-FEATURES], first[:, FEATURES:])
    assert OBSERVATION_NAMES[0] == "utilisation_t-3"
    assert OBSERVATION_NAMES[-1] == "day_cos_t"
    assert len(set(OBSERVATION_NAMES)) == first.shape[1] == 32


def test_an_observation_keeps_its_values():
    for count in (1, 4):
        simulation = Simulation(draw_traces(0, count))
        obs = simulation.observation()
        kept = obs.copy()
        for _ in range(6):
            simulation.step(np.full(count, DOWN))
        assert_array_equal(obs, kept)


def test_runs_again_with_the_same_bytes():
    simulation = Simulation(draw_traces(5, 8))
    actions = np.random.default_rng(0).integers(5, size=(100, 8))
    runs = []
    for _ in range(2):
        runs.append([simulation.reset().tobytes()])
        for row in actions:
            obs, reward, terms, done = simulation.step(row)
            runs[-1] += [obs.tobytes(), reward.tobytes(), terms.tobytes()]
    assert done
    assert runs[0] == runs[1]
