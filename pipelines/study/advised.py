"""The advisor in a training by simulation: facts at each version; directives that stand become configuration."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

from headrace.learners import dqn, seeds
from headrace.learners.acting import Policy
from headrace.learners.advice.consult import Judging, Returns, consult
from headrace.learners.advice.ledger import Ledger
from headrace.learners.advice.meter import Meter
from headrace.learners.cloud import draw_traces
from headrace.learners.cloud.baselines import baseline, evaluate_detailed
from headrace.learners.cloud.simulator import EXPLORED, FLOOR
from headrace.learners.cloud.workload import EPISODE_STEPS
from headrace.learners.simulate.curve import Moment
from headrace.pipelines.study.design import JUDGE_TRACES, Cadence
from headrace.schemas.ports import Advisor
from headrace.schemas.records import Directive


class Advised:
    """Watches a training: at every version it judges, asks and changes, as the stream's learner does.

    directives: what happened, in order. judged_steps: steps of the simulator that judging took.
    """

    def __init__(self, cadence: Cadence, advisor: Advisor) -> None:
        self.directives: list[Directive] = []
        self.judged_steps = 0
        self._cadence = cadence
        self._advisor = advisor
        self._points = 0
        self._meter = Meter()
        self._ledger: Ledger | None = None
        self._returns: dict[int, Returns] = {}
        rules = {name: _rule_returns(name) for name in EXPLORED}
        self._judging = Judging(self._returns.__getitem__, rules, _rule_returns(FLOOR))

    def watch(self, moment: Moment) -> Mapping[str, Any]:
        """Take in a moment; return the fields of the configuration that directives decide."""
        ledger = self._ledger or Ledger.begin(dataclasses.asdict(moment.config))
        self._points += 1
        if moment.point.metrics:
            self._meter.learned(moment.point.metrics)
        if self._points % self._cadence.points or not moment.updates:
            self._ledger = ledger
            return {}
        version = self._points // self._cadence.points
        mean_return = self._run(version, moment)
        assert isinstance(moment.config, dqn.DQNConfig)
        facts = self._meter.facts(
            version=version,
            rows=moment.point.steps,
            updates=moment.updates,
            exploration=dqn.exploration_at(moment.config, moment.point.steps),
            mean_return=mean_return,
            judging=self._judging,
        )
        advisor = None if version % self._cadence.every else self._advisor
        self._ledger, records = consult(
            ledger, facts, advisor, task="cloud", judging=self._judging, ts=moment.point.steps
        )
        self.directives += records
        return self._ledger.config()

    def _run(self, version: int, moment: Moment) -> float:
        """Run the version on the judge's traces; return its mean return."""
        policy = Policy(moment.arrays())
        done = evaluate_detailed(lambda obs: policy.q_values(obs).argmax(axis=1), _traces())
        self.judged_steps += JUDGE_TRACES * EPISODE_STEPS
        self._returns[version] = done.returns
        self._meter.now.actions = done.actions.sum(axis=0).tolist()
        return float(done.returns.mean())


@cache
def _traces() -> Any:  # noqa: ANN401 Traces
    return draw_traces(seeds.STUDY_JUDGE.first, JUDGE_TRACES)


@cache
def _rule_returns(name: str) -> Returns:
    return evaluate_detailed(baseline(name, _traces()), _traces()).returns
