"""Advice to one task's learner on the stream: its state in the checkpoint, its records on `directives`.

A directive holds for the rows learned after the version at which it was accepted. So a version's recorded
configuration is that of its whole interval, and `policy replay` needs no more than that.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import msgspec
import numpy as np

from headrace.learners.acting import load_policy
from headrace.learners.advice.consult import Fit, Judging, Returns, consult
from headrace.learners.advice.ledger import Ledger
from headrace.learners.advice.meter import Meter
from headrace.learners.advice.refusals import carefully, over
from headrace.learners.explain.simulation import Simulator
from headrace.learners.judge.trial import as_acting
from headrace.learners.shaping import fit_potential
from headrace.learners.stream.training import Training
from headrace.schemas.directives import SETTING, key_of
from headrace.schemas.errors import EnvironmentFailedError, SettingsError
from headrace.schemas.ports import Advisor, Clock
from headrace.schemas.records import Directive, PolicyVersion
from headrace.schemas.transition import TransitionBatch

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

    def at_version(
        self,
        version: PolicyVersion,
        training: Training[Any],
        judging: Judging | None,
        asked: Sequence[Directive],
        fit: Fit,
        *,
        careful: bool = False,
    ) -> None:
        """Undo, ask, check; then the training goes on with the configuration that is in force.

        asked: the task's records on `directives`, in which people ask to undo or to approve. fit: for shaping. careful:
        whether to learn slower and explore more from here on, until a candidate is promoted.
        """
        facts = self.state.meter.facts(
            version=version.version,
            rows=training.counts.rows,
            updates=version.updates,
            skipped_updates=training.counts.skipped_updates,
            exploration=training.exploration(),
            mean_return=version.evaluation.get("policy"),
            judging=judging,
        )
        consulted = partial(
            consult,
            self.state.ledger,
            facts,
            None if version.version % self._advising.every else self._advising.advisor,
            task=self._task,
            undo={
                **(over(self.state.ledger) if version.promoted else {}),
                **{one.directive_id: (one.decided_by, one.reason) for one in asked if one.verdict == "undo"},
            },
            approved=self._waiting(asked),
            fit=fit,
            apply=self._advising.apply,
            ts=self._clock(),
        )
        try:
            self.state.ledger, records = consulted(judging=judging)
        except EnvironmentFailedError as error:
            logger.warning("task %s: nothing that was advised can be judged now: %s", self._task, error)
            self.state.ledger, records = consulted(judging=None)
        if careful:
            self.state.ledger, more = carefully(self.state.ledger, version, self._clock())
            records += more
        self._log(records)
        training.config = dataclasses.replace(training.config, **self.state.ledger.config())

    def _waiting(self, asked: Sequence[Directive]) -> list[Directive]:
        """Return what people approved and is not decided yet; what is decided is on the log, or about to be."""
        ledger, pending = self.state.ledger, self.state.pending
        decided = {*(one.directive_id for one in ledger.standing), *(one.directive_id for one in pending)}
        last = {one.directive_id: one for one in asked}
        return [one for one in last.values() if one.verdict == "approve" and one.directive_id not in decided]

    def restate(self, changed: Mapping[str, Any]) -> None:
        """Begin with settings that people have stated; what directives had changed of these stands no longer."""
        ledger = self.state.ledger
        anew = ledger.base.keys() & changed.keys()
        said = {"task": self._task, "verdict": "undone", "decided_by": "learn", "ts": self._clock()}
        said["reason"] = "a person has stated the setting"
        over = [msgspec.structs.asdict(one) | said for one in ledger.standing if one.change in anew]
        self._log([msgspec.convert(one, Directive) for one in over])
        ledger = ledger.without([one["directive_id"] for one in over], "learn")
        base = ledger.base | {name: changed[name] for name in anew}
        self.state.ledger = msgspec.structs.replace(ledger, base=base)

    def disown(self, records: Sequence[Directive]) -> None:
        """Say of a learner that begins anew that nothing stands of what the log says: agents follow the log."""
        newest = {one.directive_id: one for one in records if one.change != SETTING}
        lost = {"verdict": "undone", "decided_by": "learn", "reason": "learning began anew", "ts": self._clock()}
        standing = [one for one in newest.values() if one.verdict in {"accepted", "undo"}]
        self._log([msgspec.structs.replace(one, **lost) for one in standing])

    def _log(self, records: Sequence[Directive]) -> None:
        for one in records:
            change = f"{key_of(one.change, one.target)} = {one.value:g}"
            logger.info(
                "directive %s, %s: %s by %s: %s", one.directive_id, change, one.verdict, one.decided_by, one.reason
            )
        self.state.pending = [*self.state.pending, *records]

    def sent(self, known: Sequence[Directive]) -> None:
        """Note which of the pending records are on the log now: those of an id and a verdict that it has."""
        there = {(one.directive_id, one.verdict) for one in known}
        self.state.pending = [one for one in self.state.pending if (one.directive_id, one.verdict) not in there]


def judging(simulator: Simulator | None, weights: Callable[[int], bytes]) -> Judging | None:
    """Return what a task's versions are judged by; None without a simulator that works. weights: gives a version's."""
    if simulator is None:
        return None
    try:
        returns = {name: done.returns for name, done in simulator.baselines().items()}
    except EnvironmentFailedError as error:
        logger.warning("nothing that is advised can be judged: %s", error)
        return None

    def of_version(number: int) -> Returns:
        return simulator.outcomes(as_acting(load_policy(weights(number)))).returns

    return Judging(cache(of_version), {name: returns[name] for name in simulator.rules}, returns[simulator.floor])


def fitted(batches: Sequence[TransitionBatch], place: int) -> tuple[float, ...] | None:
    """Fit the potential of a task's reward term to rows; None where too few have it."""
    having = [batch for batch in batches if batch.reward_terms.shape[1] > place]
    if not having:
        return None
    obs = np.concatenate([batch.next_obs for batch in having])
    return fit_potential(obs, np.concatenate([batch.reward_terms[:, place] for batch in having]))
