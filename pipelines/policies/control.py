"""What people decide about policies: which serves, and whether `learn` may promote. Each is a `policies` record."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from headrace.learners.acting import BoxPolicy, Policy, load_policy
from headrace.learners.explain.simulation import acting, task_simulator
from headrace.learners.judge.statistics import MeanInterval, paired_difference
from headrace.pipelines.published import after, published
from headrace.pipelines.topics import POLICIES
from headrace.schemas.canary import Canary
from headrace.schemas.errors import SettingsError, UnknownPolicyError
from headrace.schemas.ports import Clock, Log, PolicyStore, Record
from headrace.schemas.records import PolicyVersion, ServingPolicy, TaskSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Control:
    """Writes `policies` records in a person's name; `learn` and the agents follow them. who: that person."""

    log: Log
    store: PolicyStore
    specs: Mapping[str, TaskSpec]
    clock: Clock
    who: str

    def promote(self, task: str, number: int, reason: str) -> ServingPolicy:
        """Let a version serve, whatever the gate said. Raises UnknownPolicyError, SettingsError."""
        now = self._now(task)
        if now.version == number:
            raise SettingsError(f"{task}@{number} serves already")
        version = self._fitting(task, number)
        if version.difference is not None and not version.promoted:
            logger.warning("%s@%d was refused at the gate (%s), and serves all the same", task, number, version.reason)
        return self._send(now, version.version, version.weights_hash, reason, held=now.held)

    def rollback(self, task: str, reason: str, number: int | None = None, *, hold: bool = False) -> ServingPolicy:
        """Let a version serve again: the one before the present one, or the one given."""
        now = self._now(task)
        version = self._fitting(task, self._before(now) if number is None else number)
        if version.version == now.version:
            raise SettingsError(f"{task}@{version.version} serves already")
        return self._send(now, version.version, version.weights_hash, reason, held=now.held or hold)

    def canary(
        self, task: str, number: int, share: float, reason: str, windows: int = 0, *, promote: bool = False
    ) -> ServingPolicy:
        """Let a share of the agents try a version; `learn` promotes nothing meanwhile, as what serves must stay.

        `learn` ends it: where its returns are worse, or better (promote: then it serves all), or after so many windows.
        Any later decision ends it too. Raises UnknownPolicyError, SettingsError.
        """
        now = self.beside(task, number)
        version = self._fitting(task, number)
        trial = Canary(number, version.weights_hash, share, windows, promote)
        return self._send(now, now.version, now.weights_hash, reason, held=now.held, canary=trial)

    def beside(self, task: str, number: int) -> ServingPolicy:
        """Return what serves while a share of the agents tries a version; raises SettingsError where nothing does."""
        now = self._now(task)
        if not now.version or now.version == number:
            serves = "serves already" if now.version else "can't be tried by a share of the agents: nothing serves yet"
            raise SettingsError(f"{task}@{number} {serves}")
        return now

    def _fitting(self, task: str, number: int) -> PolicyVersion:
        return fitting(self.store, self.specs.get(task), task, number)[0]

    def hold(self, task: str, reason: str, *, held: bool) -> ServingPolicy:
        """Freeze promotion by `learn`, or release it; what serves stays, and a canary ends."""
        now = self._now(task)
        if now.held == held and not now.canary:
            raise SettingsError(f"promotion of {task} is {'on hold already' if held else 'not on hold'}")
        return self._send(now, now.version, now.weights_hash, reason, held=held)

    def _now(self, task: str) -> ServingPolicy:
        records = published(self.log, task)
        return records[-1] if records else ServingPolicy(task, 0, "", "", "", 0)

    def _before(self, now: ServingPolicy) -> int:
        """Return what served before: as the log tells, or, where it was compacted, the newest promoted before it."""
        told = [record.version for record in published(self.log, now.task) if record.version not in {0, now.version}]
        if told:
            return told[-1]
        promoted = [v.version for v in self.store.versions(now.task) if v.promoted and v.version < now.version]
        if not promoted:
            raise SettingsError(f"no version of {now.task} served before: name one with --to")
        return promoted[-1]

    def _send(
        self,
        now: ServingPolicy,
        number: int,
        weights_hash: str,
        reason: str,
        *,
        held: bool,
        canary: Canary | None = None,
    ) -> ServingPolicy:
        record = msgspec.structs.replace(
            now,
            version=number,
            weights_hash=weights_hash,
            decided_by=self.who,
            reason=reason,
            ts=self.clock(),
            held=held,
            canary=canary,
        )
        self._append(record)
        between = [one for one in after(published(self.log, record.task), now) if one != record]
        if not between:
            return record
        other = between[-1]
        logger.warning(
            "%s has decided too, just now: %s@%d%s (%s): see `headrace policy list`",
            *(other.decided_by, other.task, other.version, ", on hold" if other.held else "", other.reason),
        )
        if other.held and not held and not now.held:  # who did not ask for its release does not undo a hold
            record = msgspec.structs.replace(record, held=True)
            self._append(record)
        return record

    def _append(self, record: ServingPolicy) -> None:
        self.log.send([Record(POLICIES, record.task.encode(), msgspec.json.encode(record))])


def find(store: PolicyStore, task: str, number: int) -> PolicyVersion:
    """Return a version's record; raises UnknownPolicyError, which names those that there are."""
    versions = store.versions(task)
    for version in versions:
        if version.version == number:
            return version
    there = f"it has {versions[0].version} to {versions[-1].version}" if versions else "it has no versions"
    raise UnknownPolicyError(f"there is no policy {task}@{number}: {there} (`headrace policy list`)")


def fitting(
    store: PolicyStore, spec: TaskSpec | None, task: str, number: int
) -> tuple[PolicyVersion, Policy | BoxPolicy]:
    """Return a version whose weights fit the task, and its policy; raises SettingsError where they are another's."""
    version, policy = find(store, task, number), load_policy(store.weights(task, number))
    require_fit(spec, policy, task, number)
    return version, policy


def require_fit(spec: TaskSpec | None, policy: Policy | BoxPolicy, task: str, number: int) -> None:
    """Raise SettingsError where a version's policy is not for a task of this shape."""
    kinds = {True: "discrete", False: "continuous"}
    found = (policy.observation_width, policy.actions, kinds[isinstance(policy, Policy)])
    if spec and found != (spec.width, spec.action_count, kinds[spec.discrete]):
        raise SettingsError(
            f"{task}@{number} sees {found[0]} values and has {found[1]} {found[2]} actions; the task has "
            f"{spec.width} and {spec.action_count} {kinds[spec.discrete]}: it is a policy of another task"
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """How two versions differ: config has (name, one's value, other's).

    difference: the other's return less the one's, paired on fixed traces. agreement: share of the one's decisions that
    the other would make too, of discrete ones. None where the task has no simulator.
    """

    config: list[tuple[str, object, object]]
    difference: MeanInterval | None = None
    agreement: float | None = None


def compare(store: PolicyStore, spec: TaskSpec | None, one: PolicyVersion, other: PolicyVersion) -> Difference:
    """Compare two versions of a task: their configurations, and, where it has a simulator, what they do there."""
    pairs = [(name, one.config.get(name), other.config.get(name)) for name in sorted({*one.config, *other.config})]
    config = [(name, mine, yours) for name, mine, yours in pairs if mine != yours]
    found = task_simulator(spec) if spec else None
    if found is None:
        return Difference(config)
    first, second = (load_policy(store.weights(v.task, v.version)) for v in (one, other))
    difference = paired_difference(found.outcomes(second).returns, found.outcomes(first).returns)
    decisions = found.decisions(first)
    if decisions is None:
        return Difference(config, difference)
    agreement = float((acting(second)(decisions.obs) == decisions.actions).mean())
    return Difference(config, difference, agreement)
