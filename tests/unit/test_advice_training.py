"""The advisor beside a training loop: the arm "DQN + advisor" of the study calls `consult` every k steps."""

import dataclasses

import numpy as np
import torch

from headrace.learners import dqn
from headrace.learners.advice.consult import Judging, consult
from headrace.learners.advice.ledger import Ledger
from headrace.learners.advice.meter import Meter
from headrace.learners.advice.rules import RuleAdvisor
from headrace.learners.dqn.replay import Batch, ReplayBuffer

torch.set_num_threads(1)

CONFIG = dqn.DQNConfig(hidden=(16,), batch_size=64, replay_capacity=5_000, learning_rate=5e-3, learning_rate_final=5e-3)
EVERY_UPDATES = 40


def transitions(rng, rows=256):
    """A bandit of two contexts: the right action is whether x0 is positive; every episode is one step."""
    obs = rng.normal(size=(rows, 2)).astype(np.float32)
    action = rng.integers(2, size=rows)
    right = action == (obs[:, 0] > 0)
    return Batch(obs, action, right.astype(np.float32), obs, np.ones(rows, bool))


def evaluate(state, rows=512):
    obs = np.random.default_rng(99).normal(size=(rows, 2)).astype(np.float32)
    greedy = dqn.greedy(state, obs)
    return (greedy == (obs[:, 0] > 0)).astype(np.float64)


def train(seed, updates=400, sabotage=0):
    """A loop as any: the advisor costs three lines of it."""
    rng = np.random.default_rng(seed)
    state = dqn.init(CONFIG, 2, 2, seed)
    replay = ReplayBuffer(CONFIG.replay_capacity, 2)
    ledger, meter, returns, log = Ledger({"learning_rate": 5e-3, "learning_rate_final": 5e-3}), Meter(), {}, []
    advisor = RuleAdvisor()
    for done in range(1, updates + 1):
        replay.add(transitions(rng))
        state, metrics = dqn.update(state, replay.sample(state.rng, CONFIG.batch_size))
        meter.learned(metrics)
        if done % EVERY_UPDATES:
            continue
        version = done // EVERY_UPDATES
        returns[version] = evaluate(state) - (version >= sabotage > 0) * 0.2 * version
        facts = meter.facts(
            version=version,
            rows=done,
            updates=done,
            mean_return=float(returns[version].mean()),
        )
        judging = Judging(returns.__getitem__, {}, np.full(512, 0.5))
        ledger, records = consult(ledger, facts, advisor, task="study", judging=judging)
        state = dataclasses.replace(state, config=dataclasses.replace(state.config, **ledger.config()))
        log += records
    return state, log


def test_it_learns_and_is_reproducible():
    state, log = train(seed=1)
    assert evaluate(state).mean() > 0.95
    again, log_again = train(seed=1)
    assert torch.equal(state.parameters, again.parameters)
    assert log == log_again


def test_what_does_not_help_is_undone():
    """The return sinks by our own doing: the rate is halved, that does not help, and it comes back."""
    state, log = train(seed=1, sabotage=4)
    assert [(one.change, one.verdict) for one in log][:2] == [
        ("learning_rate", "accepted"),
        ("learning_rate", "undone"),
    ]
    assert log[0].reason.startswith("the return sinks: returns")
    assert log[1].decided_by == "gate"
    assert state.config.learning_rate <= 5e-3
