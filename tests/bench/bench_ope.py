"""How often the interval of fitted Q evaluation covers the truth, where that is known.

    python tests/bench/bench_ope.py [tabular] [cartpole] [cloud] [--policies 40] [--rows 12800]

Each of the policies is evaluated on rows of its own that others made: rows of random play, or of a mediocre policy. The
truth is the mean discounted return of many fresh episodes (of the tabular process, the solution of Bellman's equation).
"""

import argparse
import time

import numpy as np

from headrace.learners import seeds
from headrace.learners.acting import Policy
from headrace.learners.cloud import Simulation, draw_traces
from headrace.learners.judge.ope import evaluated, interval_of, probabilities
from headrace.schemas.transition import TransitionBatch

DISCOUNT = 0.95
AGENTS = 64


def linear(weight, bias, *, softmax):
    """A policy without hidden layers: logits that it draws by, or values."""
    weight, bias = np.asarray(weight, np.float32), np.asarray(bias, np.float32)
    if softmax:
        return Policy({"logits.weight": weight, "logits.bias": bias})
    zero = np.zeros((len(weight), 1), np.float32), np.zeros(1, np.float32)
    return Policy({"value.weight": zero[0], "value.bias": zero[1], "advantage.weight": weight, "advantage.bias": bias})


def drawn(policy, obs, rng):
    """Actions, and how likely each was."""
    shares = probabilities(policy, obs).astype(np.float64)
    action = np.minimum((shares.cumsum(axis=1) < rng.random((len(obs), 1))).sum(axis=1), policy.actions - 1)
    return action, shares[np.arange(len(obs)), action]


class Tabular:
    """A random process of 12 states and 3 actions that ends with 5 % a step; it is seen one-hot."""

    states, actions = 12, 3

    def __init__(self, rng):
        self.moves = rng.dirichlet(np.full(self.states, 0.3), (self.states, self.actions))
        self.rewards = rng.normal(0, 1, (self.states, self.actions))

    def begin(self, count, rng):
        return rng.integers(3, size=count)

    def observe(self, state):
        return np.eye(self.states, dtype=np.float32)[state]

    def step(self, state, action, rng):
        following = (self.moves[state, action].cumsum(axis=1) < rng.random((len(state), 1))).sum(axis=1)
        following = np.minimum(following, self.states - 1)
        reward = self.rewards[state, action] + rng.normal(0, 0.5, len(state))
        return following, reward, rng.random(len(state)) < 0.05

    def policy(self, rng):
        return linear(rng.normal(0, 1.5, (self.states, 3)), np.zeros(3), softmax=rng.random() < 0.5)

    def truth(self, policy, _):
        shares = probabilities(policy, self.observe(np.arange(self.states))).astype(np.float64)
        moves = np.einsum("sa,sat->st", shares, self.moves)
        value = np.linalg.solve(np.eye(self.states) - 0.95 * DISCOUNT * moves, (shares * self.rewards).sum(axis=1))
        return value[:3].mean()


class CartPole:
    """Gymnasium's CartPole-v1, many at once, without its limit of time."""

    actions = 2

    def __init__(self, _):
        pass

    def begin(self, count, rng):
        return rng.uniform(-0.05, 0.05, (count, 4))

    def observe(self, state):
        return state.astype(np.float32)

    def step(self, state, action, _):
        _, speed, angle, turning = state.T
        force, cosine, sine = np.where(action == 1, 10.0, -10.0), np.cos(angle), np.sin(angle)
        pull = (force + 0.05 * turning**2 * sine) / 1.1
        bend = (9.8 * sine - cosine * pull) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
        push = pull - 0.05 * bend * cosine / 1.1
        state = state + 0.02 * np.stack([speed, push, turning, bend], axis=1)
        return state, np.ones(len(state)), (abs(state[:, 0]) > 2.4) | (abs(state[:, 2]) > np.pi / 15)

    def policy(self, rng):
        gain = np.array([0.1, 0.3, 5, 1]) * rng.uniform(0, 2) + rng.normal(0, 1, 4) * [0.5, 0.5, 2, 1]
        half = np.stack([-gain, gain], axis=1) / 2 / rng.choice([0.05, 0.3, 1.0])
        return linear(half, np.zeros(2), softmax=rng.random() < 0.5)

    def truth(self, policy, rng):
        return played_truth(self, policy, rng)


class Cloud:
    """CloudService with episodes that go on until they no longer count."""

    actions = 5

    def __init__(self, rng):
        self._rng = rng

    def begin(self, count, rng):
        self._simulation = Simulation(draw_traces(int(rng.integers(2**31)), count, 300))
        return self._simulation.observation()

    def observe(self, state):
        return state

    def step(self, state, action, _):
        state, reward, _, _ = self._simulation.step(action)
        return state, reward, np.zeros(len(state), np.bool_)

    def policy(self, rng):
        """Its logits are those of the wish to change replicas by gain * (what the newest frame shows - a level)."""
        change, gain = np.arange(-2, 3), rng.uniform(1, 12)
        wish = np.zeros(32)
        wish[[24, 25, 26, 27]] = gain * np.array([1, 0.3, 0.5, 0.2]) * rng.normal(1, 0.3, 4)
        level = gain * rng.uniform(0.4, 1.0)
        weight, bias = 2 * wish[:, None] * change, -(change**2) - 2 * level * change
        return linear(weight, bias, softmax=rng.random() < 0.5)

    def truth(self, policy, rng):
        return played_truth(self, policy, rng)


def played_truth(task, policy, rng, count=2_000):
    state, alive, total, weight = task.begin(count, rng), np.ones(count), np.zeros(count), 1.0
    while weight > 1e-4:
        state, reward, ended = task.step(state, drawn(policy, task.observe(state), rng)[0], rng)
        total += weight * alive * reward
        alive, weight = alive * ~ended, weight * DISCOUNT
        state = np.where(alive[:, None] > 0, state, 0.0).astype(state.dtype)
    return total.mean()


def recorded(task, policy, steps, rng, limit=100):
    """Rows of AGENTS agents that act by a policy; episodes are cut after `limit` steps, at the same time for all."""
    parts, episode = [], np.zeros(AGENTS, np.int64)
    state, step = task.begin(AGENTS, rng), np.zeros(AGENTS, np.int64)
    for number in range(1, steps + 1):
        obs = task.observe(state)
        action, likely = drawn(policy, obs, rng)
        state, reward, ended = task.step(state, action, rng)
        cut = np.full(AGENTS, number % limit == 0)
        parts.append((episode, step, obs, action, likely, reward, task.observe(state), ended, cut & ~ended))
        step, episode = np.where(ended | cut, 0, step + 1), episode + (ended | cut)
        if (over := ended | cut).any():
            state = state.copy()
            state[over] = task.begin(AGENTS, rng)[over]
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    episode, step, obs, action, likely, reward, following, ended, cut = columns
    count = len(step)
    return TransitionBatch(
        "t",
        tuple(map(str, range(AGENTS))),
        tuple(map(str, range(int(episode.max()) + 1))),
        np.tile(np.arange(AGENTS, dtype=np.int32), steps),
        episode.astype(np.int32),
        step,
        step,
        np.arange(count),
        obs,
        action.astype(np.int32),
        reward.astype(np.float32),
        following,
        ended,
        cut,
        np.zeros((count, 0), np.float32),
        np.full(count, -1),
        np.log(likely).astype(np.float32),
    )


def measure(name, kind, policies, rows):
    covered, above, misses, halves, robust, began = 0, 0, [], [], [], time.process_time()
    for seed in range(policies):
        rng = np.random.default_rng([seed, seeds.EVALUATIONS.first])
        task = kind(rng)
        candidate, behaviour = task.policy(rng), task.policy(rng)
        width = task.observe(task.begin(2, rng)).shape[1]
        if seed % 2 or not behaviour.softmax:  # every action must be tried
            behaviour = linear(np.zeros((width, task.actions)), np.zeros(task.actions), softmax=True)
        batch = recorded(task, behaviour, rows // AGENTS, rng)
        truth, before = (task.truth(policy, np.random.default_rng(seed)) for policy in (candidate, behaviour))
        found = evaluated(batch, [candidate, None], task.actions, DISCOUNT, 0)
        value = interval_of(found.values[0], found.groups)
        gain = interval_of(found.values[0] - found.values[1], found.groups)
        covered += value.low <= truth <= value.high
        above += gain.low > 0.0 and truth <= before
        if found.robust:
            other = interval_of(found.robust[0], found.groups)
            gain_too = interval_of(found.robust[0] - found.robust[1], found.groups)
            right = gain_too.low <= truth - before <= gain_too.high, gain_too.low > 0.0, truth > before
            robust.append((other.low <= truth <= other.high, other.mean - truth, other.high - other.mean, *right))
        misses.append(value.mean - truth)
        halves.append((value.high - value.low) / 2)
        print(
            f"  {name} {seed}: true {truth:.2f}, {value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]; gain "
            f"{truth - before:.2f}, {gain.mean:.2f} [{gain.low:.2f}, {gain.high:.2f}]; {found.effective[0]:.0f} rows, "
            f"{found.steps} steps",
            flush=True,
        )
    print(
        f"{name}: covered {covered} of {policies} ({covered / policies:.0%}); promoted, and not better: {above}; "
        f"error {np.sqrt(np.mean(np.square(misses))):.3f}, half interval {np.median(halves):.3f}; "
        f"{(time.process_time() - began) / policies:.1f} CPU-s a policy",
        flush=True,
    )
    hits, missed, half, gains, shown, better = np.array(robust, np.float64).T
    print(
        f"{name}, doubly robust: {len(robust)} could be told; covered {hits.sum():.0f}, of the gain {gains.sum():.0f}; "
        f"promoted {(shown * better).sum():.0f} of {better.sum():.0f}, others {(shown * (1 - better)).sum():.0f}; "
        f"error {np.sqrt(np.mean(np.square(missed))):.3f}, half interval {np.median(half):.3f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {"tabular": Tabular, "cartpole": CartPole, "cloud": Cloud}
    parser.add_argument("names", nargs="*", choices=[*kinds, []], default=[])
    parser.add_argument("--policies", type=int, default=40)
    parser.add_argument("--rows", type=int, default=12_800)
    options = parser.parse_args()
    for name in options.names or kinds:
        measure(name, kinds[name], options.policies, options.rows)


if __name__ == "__main__":
    main()
