"""The advisor in a training by simulation: facts at each version; directives that stand become configuration."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from headrace.learners import dqn, seeds
from headrace.learners.acting import Policy
from headrace.learners.advice.consult import Asked, Judging, Returns, consult
from headrace.learners.advice.ledger import Ledger
from headrace.learners.advice.meter import Meter
from headrace.learners.advice.rules import RuleAdvisor
from headrace.learners.cloud import draw_traces
from headrace.learners.cloud.baselines import baseline, evaluate_detailed
from headrace.learners.cloud.simulator import FLOOR
from headrace.learners.cloud.workload import EPISODE_STEPS
from headrace.learners.simulate.curve import Moment
from headrace.pipelines.study.design import JUDGE_TRACES, Cadence
from headrace.schemas.directives import RULES, LearningFacts
from headrace.schemas.records import Directive


class Advised:
    """Watches a training: at every version it judges, asks and changes, as the stream's learner does.

    directives: what happened, in order. judged_steps: steps of the simulator that judging took.
    """

    def __init__(self, cadence: Cadence) -> None:
        self.directives: list[Directive] = []
        self.judged_steps = 0
        self._cadence = cadence
        self._points = 0
        self._meter = Meter()
        self._ledger: Ledger | None = None
        self._returns: dict[int, Returns] = {}

    def watch(self, moment: Moment) -> Mapping[str, Any]:
        """Take in a moment; return the fields of the configuration that directives decide."""
        if self._ledger is None:
            self._ledger = Ledger.begin(dataclasses.asdict(moment.config))
        self._points += 1
        if moment.point.metrics:
            self._meter.learned(moment.point.metrics)
        if self._points % self._cadence.points or not moment.updates:
            return {}
        self._at_version(self._points // self._cadence.points, moment)
        return self._ledger.config()

    def _at_version(self, version: int, moment: Moment) -> None:
        assert self._ledger is not None
        facts = self._facts(version, moment)
        self._meter.next_interval(0)
        due = version % self._cadence.every == 0
        judging = Judging(self._returns.__getitem__, _rule_returns, _rule_returns(FLOOR))
        self._ledger, records = consult(
            self._ledger, facts, _ask if due else None, task="cloud", judging=judging, ts=moment.point.steps
        )
        self.directives += records

    def _facts(self, version: int, moment: Moment) -> LearningFacts:
        assert isinstance(moment.config, dqn.DQNConfig)
        policy = Policy(moment.arrays())
        done = evaluate_detailed(lambda obs: policy.q_values(obs).argmax(axis=1), _traces())
        self.judged_steps += JUDGE_TRACES * EPISODE_STEPS
        self._returns[version] = done.returns
        rules = {name: float(_rule_returns(name).mean()) for name in RULES}
        facts = self._meter.facts(
            version=version,
            rows=moment.point.steps,
            updates=moment.updates,
            skipped_updates=0,
            exploration=dqn.exploration_at(moment.config, moment.point.steps),
            evaluation=rules | {"policy": float(done.returns.mean())},
        )
        actions = done.actions.sum(axis=0)
        return msgspec.structs.replace(facts, actions=tuple((actions / actions.sum()).tolist()))


def _ask(facts: LearningFacts) -> Asked:
    advisor = RuleAdvisor()
    return Asked(advisor.propose(facts), advisor.name)


@cache
def _traces() -> Any:  # noqa: ANN401 Traces
    return draw_traces(seeds.STUDY_JUDGE.first, JUDGE_TRACES)


@cache
def _rule_returns(name: str) -> Returns:
    return evaluate_detailed(baseline(name, _traces()), _traces()).returns
