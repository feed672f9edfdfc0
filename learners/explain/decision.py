"""The facts of one decision: what was done, what a version makes of it, and what others would have done.

The version is prepared once (`studied`); after that a decision's facts take milliseconds.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import BoxPolicy
from headrace.learners.explain.behaviour import dimension_name
from headrace.learners.explain.choice import MOVED, choice_facts, named, vector_facts
from headrace.learners.explain.evidence import controller_name
from headrace.learners.explain.facts import tellable
from headrace.learners.explain.regions import told
from headrace.learners.explain.similar import similar_facts
from headrace.learners.explain.studied import Decision, StudiedPolicy, action_range
from headrace.learners.explain.surrogate import Surrogate
from headrace.learners.simulate.environments import environment_of
from headrace.schemas.names import slug
from headrace.schemas.narration.ranking import ranked
from headrace.schemas.records import Fact, Facts, TaskSpec

REMEMBERED: Final = 12
"""Earlier steps that rules are shown: what they remember of older ones is nothing."""


def decision_facts(spec: TaskSpec, decision: Decision, by: StudiedPolicy | None) -> Facts:
    """Compute everything that may be said of a decision, in order of effect.

    by: the version that is asked about it: the one that acted, else the one that serves. None where there is none.
    """
    found = list(_taken_facts(spec, decision))
    if by is not None:
        found.append(Fact("decision.version", "version, which is asked", by.version, "version"))
        found += (vector_facts if isinstance(by.policy, BoxPolicy) else choice_facts)(spec, decision, by)
        found += _path_facts(spec, decision.obs, by)
    found += [*_rule_facts(spec, decision), *similar_facts(spec, decision)]
    facts = Facts(spec.task, decision.subject, tuple(tellable(found)))
    return Facts(facts.task, facts.subject, ranked(facts))


def _taken_facts(spec: TaskSpec, decision: Decision) -> Iterator[Fact]:
    if not isinstance(decision.action, np.ndarray):
        name = named(spec, decision.action)
        yield Fact("decision.taken", f"{name}, action taken, its number in the task", int(decision.action))
        return
    count = len(decision.action)
    for place, value in enumerate(decision.action.tolist(), 1):
        yield Fact(f"decision.taken.d{place}", f"{dimension_name(place - 1, count)}, as it was taken", value)


def _path_facts(spec: TaskSpec, obs: NDArray[np.float32], by: StudiedPolicy) -> Iterator[Fact]:
    """Compute the path that a small tree that imitates the version takes, by feature one fact.

    Where the tree comes to another action than the version, only its fidelity is told.
    """
    if by.tree is None:
        return
    yield _fidelity(by.tree, "variance" if isinstance(by.policy, BoxPolicy) else "decisions")
    conditions, target = by.tree.path(obs)
    if not _agrees(by, obs, target):
        return
    for place, feature in enumerate(dict.fromkeys(one.of for one in conditions), 1):
        on_it = [one for one in conditions if one.of == feature]
        label = f"{told(on_it, spec.observations)}, on the tree's path"
        yield Fact(f"path.{place}.{slug(spec.observations[feature])}", label, on_it[-1].threshold)
    if not isinstance(by.policy, BoxPolicy):
        action = int(target.argmax())
        yield Fact("path.action", f"{named(spec, action)}, where the tree's path ends, its number", action)
    elif by.policy.actions == 1:
        yield Fact(
            "path.action", "the action, where the tree's path ends", float((target * action_range(by.policy))[0])
        )


def _agrees(by: StudiedPolicy, obs: NDArray[np.float32], target: NDArray[np.float64]) -> bool:
    """Whether the tree's action is the version's; of continuous ones, about."""
    if not isinstance(by.policy, BoxPolicy):
        return bool(target.argmax() == by.policy.q_values(obs[None]).argmax())
    own = by.policy.act(obs[None])[0] / action_range(by.policy)
    return bool((np.abs(target - own) < MOVED / 2.0).all())


def _fidelity(tree: Surrogate, what: str) -> Fact:
    label = f"a small tree that imitates the version, {what} that it gets right of {tree.held_out} rows held out"
    return Fact("path.fidelity", label, tree.fidelity, "%")


def _rule_facts(spec: TaskSpec, decision: Decision) -> Iterator[Fact]:
    """Ask the environment's rules, and tell of those that were given."""
    own, advice = environment_of(spec.environment), dict(decision.rules)
    if own is not None and own.advised is not None:
        earlier = decision.history if decision.history is not None else decision.obs[:0].reshape(0, spec.width)
        advice |= own.advised(np.concatenate([earlier[-REMEMBERED:], decision.obs[None]]))
    for key, action in advice.items():
        label = f"{controller_name(spec, key)}, which would take \u201c{named(spec, action)}\u201d"
        yield Fact(f"rule.{slug(key)}", label, int(action))
