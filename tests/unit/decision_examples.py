"""Decisions by policies simple enough to compute by hand."""

from dataclasses import replace
from functools import cache

import numpy as np
from test_explain_rows import ARM, batch
from test_explain_samples import CLOUD, PLAIN

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.explain.decision import decision_facts
from headrace.learners.explain.studied import Decision, StudiedPolicy, studied
from headrace.schemas.decisions import Neighbours
from headrace.schemas.records import Facts

SEEN = np.array([1.5, -1.0], np.float32)


def rows(count: int = 50, width: int = 2) -> np.ndarray:
    """Every feature between -2 and 2, with a mean of 0."""
    column = np.linspace(-2.0, 2.0, count)
    order = [np.argsort(np.sin(np.arange(count) * (place + 1.0) + place)) for place in range(width)]
    return np.stack([column[one] for one in order], axis=1).astype(np.float32)


def pump(*, drawn: bool = False, lead: float = 0.0) -> StudiedPolicy:
    """Open is worth 2 level + flow + lead, close 4 less than minus 2 level + flow, vent nothing."""
    weight = np.array([[2.0, -2.0, 0.0], [1.0, -1.0, 0.0]], np.float32)
    bias = np.array([lead, -4.0, 0.0], np.float32)
    if drawn:
        return studied(3, Policy({"logits.weight": weight, "logits.bias": bias}), rows())
    value = {"value.weight": np.zeros((2, 1), np.float32), "value.bias": bias.mean(keepdims=True)}
    return studied(3, Policy({"advantage.weight": weight, "advantage.bias": bias, **value}), rows())


def arm() -> StudiedPolicy:
    """The action is the angle, within -2 and 2."""
    arrays = {"mean.weight": np.ones((1, 1)), "mean.bias": np.zeros(1), "log_std": np.zeros(1)}
    bounds = {"action.low": np.array([-2.0]), "action.high": np.array([2.0])}
    arrays = {name: value.astype(np.float32) for name, value in (arrays | bounds).items()}
    return studied(3, BoxPolicy(arrays), 2.0 * rows(width=1))


def similar() -> Neighbours:
    """Two agents, three steps each; the first row is the decision itself where that is a0's step 0 of e."""
    return Neighbours(batch(np.array([0, 0, 1, 0, 0, 1], np.int32), 1.0, 3, 2, 3), np.arange(6) / 10.0)


def decision(action: object = 0, **fields: object) -> Decision:
    return replace(Decision("a0", "e", 0, SEEN, action), **fields)  # type: ignore[arg-type]


def cloud() -> Facts:
    weight = np.random.default_rng(3).normal(0.0, 0.3, (32, 5)).astype(np.float32)
    policy = Policy({"logits.weight": weight, "logits.bias": np.zeros(5, np.float32)})
    obs = np.random.default_rng(4).uniform(0.0, 1.0, (200, 32)).astype(np.float32)
    one = Decision("web-07", "e1", 3, obs[3], int(policy.decide(obs[3])), history=obs[:3], rules={"tuned_rule": 1})
    return decision_facts(CLOUD, one, studied(7, policy, obs))


@cache
def decided() -> dict[str, Facts]:
    """By name: the facts of decisions of every kind."""
    return {
        "valued": decision_facts(PLAIN, decision(similar=similar()), pump()),
        "explored": decision_facts(PLAIN, decision(np.int32(1), rules={"ours": 1, "theirs": 2}), pump()),
        "drawn": decision_facts(PLAIN, decision(2), pump(drawn=True)),
        "asked": decision_facts(PLAIN, decision(rival=1), pump()),
        "firm": decision_facts(PLAIN, decision(), pump(lead=50.0)),
        "unknown": decision_facts(PLAIN, decision(similar=similar()), None),
        "arm": decision_facts(
            ARM,
            decision(np.array([1.0], np.float32), obs=np.array([3.0], np.float32), similar=_arm_similar()),
            arm(),
        ),
        "cloud": cloud(),
    }


def _arm_similar() -> Neighbours:
    actions = np.array([1.0, 1.1, 1.3, 1.5, -2.0, 0.7], np.float32)[:, None]
    return Neighbours(batch(actions, 1.0, 3, 2, 3, episode="other"), np.arange(6) / 10.0)
