"""Advice to one task's learner on the stream: its state in the checkpoint, its records on `directives`.

A directive holds for the rows learned after the version at which it was accepted. So a version's recorded
configuration is that of its whole interval, and `policy replay` needs no more than that.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import msgspec
import numpy as np

from headrace.learners.acting import Policy
from headrace.learners.advice.consult import Asked, Fit, Judging, Returns, consult, undo
from headrace.learners.advice.ledger import Ledger
from headrace.learners.advice.meter import Meter, q_gap
from headrace.learners.advice.rules import RuleAdvisor
from headrace.learners.explain.simulation import Simulator
from headrace.learners.judge.trial import as_acting
from headrace.learners.shaping import fit_potential
from headrace.learners.stream.training import Training
from headrace.schemas.directives import LearningFacts, key_of
from headrace.schemas.errors import HeadraceError, SettingsError
from headrace.schemas.ports import Advisor, Clock
from headrace.schemas.records import Directive, PolicyVersion
from headrace.schemas.transition import TransitionBatch

SAMPLED_ROWS: Final = 256
"""Of replay, for the gap between the two best values."""
FITTED_CHUNKS: Final = 32
"""The newest of a version's chunks, to which a reward term's potential is fitted."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Advising:
    """Who advises and how. every: versions between two consultations. apply: False logs proposals and changes nothing.

    advisor: None proposes nothing; what stands already goes on to be judged, and can be undone.
    """

    advisor: Advisor | None = None
    every: int = 2
    apply: bool = True


def advising(advisor: Advisor | None, options: Mapping[str, str]) -> Advising:
    """Read how a setting's advisor is to advise; raises SettingsError. mode=log proposes only, mode=apply acts."""
    mode, every = options.get("mode", "apply"), options.get("every", "2")
    if mode not in {"apply", "log"}:
        raise SettingsError(f"--advisor: mode is {mode!r}; known: apply, log")
    if not every.isdecimal() or not 1 <= int(every) <= 1_000:
        raise SettingsError(f"--advisor: every is {every!r}; a number of versions from 1 to 1000 is needed")
    return Advising(advisor, every=int(every), apply=mode == "apply")


class AdviceState(msgspec.Struct):
    """What a checkpoint holds of it. pending: records that are not yet on the log."""

    ledger: Ledger
    meter: Meter = msgspec.field(default_factory=Meter)
    pending: list[Directive] = []


class Advice:
    """One task's advice. What it decides depends on `state`, the version's facts and the advisor's answer alone."""

    def __init__(self, task: str, advising: Advising, state: AdviceState, clock: Clock) -> None:
        self.state = state
        self._task = task
        self._advising = advising
        self._clock = clock

    def saw(self, rows: TransitionBatch, actions: int, newest: int) -> None:
        """Take in rows; actions: how many discrete ones there are. newest: the newest version's number."""
        self.state.meter.saw(rows.action, actions, rows.reward_terms, rows.policy_version, newest)

    def learned(self, metrics: Mapping[str, float]) -> None:
        """Take in an update's metrics."""
        self.state.meter.learned(metrics)

    def at_version(
        self,
        version: PolicyVersion,
        training: Training,
        judging: Judging | None,
        asked: Sequence[Directive],
        fit: Fit,
    ) -> None:
        """Undo, ask, check; then the training goes on with the configuration that is in force.

        asked: undoing that people have asked for. fit: for shaping.
        """
        facts = self._facts(version, training)
        self.state.meter.next_interval(training.counts.skipped_updates)
        self._undo_asked(asked)
        due = self._advising.advisor is not None and facts.version % self._advising.every == 0
        self.state.ledger, records = consult(
            self.state.ledger,
            facts,
            self._ask if due else None,
            task=self._task,
            judging=judging,
            fit=fit,
            apply=self._advising.apply,
            ts=self._clock(),
        )
        self._log(records)
        training.config = dataclasses.replace(training.config, **self.state.ledger.config())

    def _facts(self, version: PolicyVersion, training: Training) -> LearningFacts:
        """State how learning went up to a version; settings are filled in by the consultation."""
        obs = training.sampled_obs(SAMPLED_ROWS, seed=version.version)
        return self.state.meter.facts(
            version=version.version,
            rows=training.counts.rows,
            updates=version.updates,
            skipped_updates=training.counts.skipped_updates,
            exploration=training.exploration(),
            q_gap=None if obs is None else q_gap(Policy(training.policy_arrays()).q_values(obs)),
            evaluation=version.evaluation,
            difference=version.difference,
        )

    def _undo_asked(self, asked: Sequence[Directive]) -> None:
        reasons = {one.directive_id: (one.decided_by, one.reason) for one in asked}
        self.state.ledger, records = undo(self.state.ledger, reasons, self._task, self._clock())
        self._log(records)

    def disown(self, records: Sequence[Directive]) -> None:
        """Say of a learner that begins anew that nothing stands of what the log says: agents follow the log."""
        newest = {one.directive_id: one for one in records}
        lost = {"verdict": "undone", "decided_by": "learn", "reason": "learning began anew", "ts": self._clock()}
        standing = [one for one in newest.values() if one.verdict in {"accepted", "undo"}]
        self._log([msgspec.structs.replace(one, **lost) for one in standing])

    def _ask(self, facts: LearningFacts) -> Asked:
        """Ask the advisor; where it can't be reached or speaks out of turn, the rules speak, and the log says why."""
        advisor = self._advising.advisor
        assert advisor is not None
        try:
            return Asked(advisor.propose(facts), advisor.name)
        except HeadraceError as error:
            logger.warning("%s: the rules advise instead of %s: %s", self._task, advisor.name, error)
            why = f"(instead of {advisor.name}: {error}) "
        rules = RuleAdvisor()
        proposals = [msgspec.structs.replace(one, reason=why + one.reason) for one in rules.propose(facts)]
        return Asked(proposals, rules.name)

    def _log(self, records: Sequence[Directive]) -> None:
        for one in records:
            change = f"{key_of(one.change, one.target)} = {one.value:g}"
            logger.info(
                "directive %s, %s: %s by %s: %s", one.directive_id, change, one.verdict, one.decided_by, one.reason
            )
        self.state.pending = [*self.state.pending, *records]

    def sent(self, known: set[tuple[str, str]] | None = None) -> None:
        """Note that the pending records, or those whose (id, verdict) are given, are on the log now."""
        left = self.state.pending if known is not None else []
        self.state.pending = [one for one in left if (one.directive_id, one.verdict) not in (known or set())]


def judging(world: Simulator | None, weights: Callable[[int], bytes]) -> Judging | None:
    """Return what a task's versions are judged by; None without a simulator. weights: gives a version's."""
    if world is None:
        return None
    baselines = world.baselines()

    def of_version(number: int) -> Returns:
        return world.outcomes(as_acting(Policy.from_bytes(weights(number)))).returns

    def of_baseline(name: str) -> Returns | None:
        return baselines[name].returns if name in baselines else None

    return Judging(cache(of_version), of_baseline, baselines[world.floor].returns)


def fitted(batches: Sequence[TransitionBatch], place: int) -> tuple[float, ...] | None:
    """Fit the potential of a task's reward term to rows; None where too few have it."""
    having = [batch for batch in batches if batch.reward_terms.shape[1] > place]
    if not having:
        return None
    obs = np.concatenate([batch.next_obs for batch in having])
    return fit_potential(obs, np.concatenate([batch.reward_terms[:, place] for batch in having]))
