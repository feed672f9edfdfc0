"""One decision: found in the index by agent and time, or by episode and step, and what is computed of it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from headrace.learners.acting import load_policy
from headrace.learners.explain.decision import REMEMBERED, decision_facts
from headrace.learners.explain.interval import moment_text
from headrace.learners.explain.studied import Decision, StudiedPolicy, studied
from headrace.learners.explain.witness import Witness
from headrace.pipelines.ask.ground import Ground, NotKnownError
from headrace.pipelines.ask.question import Kind, Moment, Question
from headrace.pipelines.published import published
from headrace.schemas.chunk import decode_chunk
from headrace.schemas.decisions import vectors_of
from headrace.schemas.errors import CorruptDataError, UnknownPolicyError
from headrace.schemas.names import slug
from headrace.schemas.partition import group_of
from headrace.schemas.records import Fact, Facts, TaskSpec
from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch, concat

LOOKED_BACK: Final = 64
"""A decision without a time is looked for in so many windows, from the newest back."""
STUDIED_ROWS: Final = 2_000
SIMILAR: Final = 10
HELD_MS: Final = 60_000
"""A decision holds for so long at least, or a window, where the agent decided nothing since."""

_SEEN: Final = ("decision.", "attribution.", "seen.", "typical.")
TOLD: Final[Mapping[Kind, tuple[tuple[str, ...], tuple[str, ...], str]]] = {
    "why": (("",), ("",), ""),
    "importance": (_SEEN, ("attribution.",), "what mattered is not known"),
    "expected": (
        ("decision.", "similar."),
        ("decision.value", "decision.best"),
        "what it expected is not known",
    ),
    "contrast": (
        (*_SEEN, "margin.", "rule."),
        ("margin.", "decision.best"),
        "there is no other action to compare it with",
    ),
    "counterfactual": (
        ("decision.", "counterfactual.", "seen."),
        ("counterfactual.", "decision.firm"),
        "what would have changed it is not known",
    ),
    "similar": (
        ("decision.taken", "decision.version", "similar."),
        ("similar.",),
        "the index has no other sampled decision; `headrace init --sample-every N` says how many are kept",
    ),
}
"""By kind: how the ids of the facts begin that answer it; those of which it needs one; what is missing without."""


@dataclass(frozen=True, slots=True)
class Found:
    """One transition (a batch of one row), and what its agent saw before it in its episode, float32[T, D]."""

    row: TransitionBatch
    history: NDArray[np.float32]

    @property
    def agent(self) -> str:
        """Whose decision it is."""
        return self.row.agents[int(self.row.agent[0])]

    @property
    def episode(self) -> str:
        """The episode that it belongs to."""
        return self.row.episodes[int(self.row.episode[0])]


def decision(ground: Ground, question: Question) -> Facts:
    """Tell what was asked of one decision. Raises NotKnownError."""
    spec = ground.specs[question.task or ""]
    found = find(ground, spec, question)
    row = found.row
    action = int(row.action[0]) if spec.discrete else row.action[0]
    asked = Decision(
        found.agent,
        found.episode,
        int(row.step[0]),
        row.obs[0],
        action,
        found.history,
        ground.index.decisions.similar(spec.task, vectors_of(row.obs, spec)[0], SIMILAR),
        rival=_rival(question, action),
    )
    by = _asked(ground, spec, question, row)
    facts = decision_facts(spec, asked, by)
    subject = f"{facts.subject}, {moment_text(int(row.ts[0]))}"
    kind = question.kind or "why"
    begins, needed, missing = TOLD[kind]
    if not any(fact.fact_id.startswith(needed) for fact in facts.facts):
        reason = missing if by else f"no version of it serves, and the row names none: {missing}"
        raise NotKnownError(f"{subject}: {reason}")
    return Facts(spec.task, subject, tuple(_narrowed(spec, asked.rival, facts.facts, begins)))


def _narrowed(spec: TaskSpec, rival: int | None, facts: Iterable[Fact], begins: tuple[str, ...]) -> Iterator[Fact]:
    """Keep the facts that answer the question; of leads over other actions that over the one asked about."""
    of_rival = f"margin.{slug(spec.actions[rival])}" if rival is not None and isinstance(spec.actions, tuple) else ""
    for fact in facts:
        elsewhere = of_rival and fact.fact_id.startswith("margin.") and fact.fact_id != of_rival
        if fact.fact_id.startswith(begins) and not elsewhere:
            yield fact


def _rival(question: Question, action: int | NDArray[np.float32]) -> int | None:
    """Return the action that is asked about instead of the one that was taken."""
    for place in (*question.foils, *question.actions):
        if place != action:
            return place
    return None


def _asked(ground: Ground, spec: TaskSpec, question: Question, row: TransitionBatch) -> StudiedPolicy | None:
    """Return the version that is asked about it: the one named, else the one that acted, else the one that serves."""
    acted, records = int(row.policy_version[0]), published(ground.log, spec.task)
    number = question.version
    if number is None:
        number = acted if acted != NO_POLICY_VERSION else records[-1].version if records else 0
        if not number:
            return None
    key = spec.task, number
    if key not in ground.studied:
        ground.studied[key] = _studied(ground, spec, number)
    return ground.studied[key]


def _studied(ground: Ground, spec: TaskSpec, number: int) -> StudiedPolicy:
    """Prepare a version by the last rows that it learned from, else by recent ones of its task."""
    try:
        policy = load_policy(ground.store.weights(spec.task, number))
        references = ground.store.version(spec.task, number).references
    except (ValueError, CorruptDataError, UnknownPolicyError) as error:
        raise NotKnownError(f"{spec.task}@{number} acted, and can't be asked: {error}") from error
    rows = Witness(ground.store.weights, ground.chunks.transitions).rows(references)
    obs = np.concatenate([one.obs for one in rows or _newest_rows(ground, spec)])
    return studied(number, policy, obs[:: -(-len(obs) // STUDIED_ROWS)])


def _newest_rows(ground: Ground, spec: TaskSpec) -> list[TransitionBatch]:
    """Return rows of the newest window that has any."""
    return next(filter(None, ([*_batches(ground, spec, None, start)] for start in _back(ground, spec, None))), [])


def find(ground: Ground, spec: TaskSpec, question: Question) -> Found:
    """Return the decision that is meant: at a time the first that fits, else the newest. Raises NotKnownError.

    At a moment at which an agent decided nothing, its last decision before it is meant.
    """
    found, seen = _search(ground, spec, question)
    moment = question.moment
    if found is None and moment is not None and moment.point and not _within(seen, moment):
        wider = Moment(moment.start_ms - max(spec.window_ms, HELD_MS), moment.end_ms, point=False)
        found, seen = _search(ground, spec, replace(question, moment=wider))
    if found is None:
        raise NotKnownError(_missing(ground, spec, question, seen))
    return found


def _search(ground: Ground, spec: TaskSpec, question: Question) -> tuple[Found | None, list[TransitionBatch]]:
    """Look in the windows of a time: what was found, and the agent's rows of the first window with any."""
    wanted, seen = _Wanted(question), list[TransitionBatch]()
    for start_ms in _back(ground, spec, question.moment):
        read = _batches(ground, spec, question.agent, start_ms)
        batches = [rows for rows in map(wanted.of_agent, read) if len(rows)]
        seen = seen or batches
        fits = [rows for rows in map(wanted.fitting, batches) if len(rows)]
        if fits:
            return _found(batches, wanted.chosen(fits)), seen
    return None, seen


def _within(batches: list[TransitionBatch], moment: Moment) -> bool:
    return any(((rows.ts >= moment.start_ms) & (rows.ts < moment.end_ms)).any() for rows in batches)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which rows a question means."""

    question: Question

    def of_agent(self, rows: TransitionBatch) -> TransitionBatch:
        """Return the rows of the agent, and of the episode."""
        agent, episode = self.question.agent, self.question.episode
        keep = np.ones(len(rows), bool)
        if agent is not None:
            keep &= np.array([name == agent for name in rows.agents], bool)[rows.agent]
        if episode is not None:
            keep &= np.array([_is_episode(name, episode) for name in rows.episodes], bool)[rows.episode]
        return rows.take(keep)

    def fitting(self, rows: TransitionBatch) -> TransitionBatch:
        """Return the rows of the step, the time and the action that are meant."""
        question, keep = self.question, np.ones(len(rows), bool)
        if question.step is not None:
            keep &= rows.step == question.step
        if question.moment is not None:
            keep &= (rows.ts >= question.moment.start_ms) & (rows.ts < question.moment.end_ms)
        if question.actions and rows.action.ndim == 1 and question.kind not in {"contrast", "counterfactual"}:
            keep &= np.isin(rows.action, question.actions)
        return rows.take(keep)

    def chosen(self, fits: list[TransitionBatch]) -> TransitionBatch:
        """Return one row: the first where a moment is named, else the newest."""
        order = 1 if self.question.moment is not None and self.question.moment.point else -1
        rows = concat(fits)
        return rows.take(np.arange(len(rows)) == np.lexsort((rows.step, order * rows.ts))[0])


def _is_episode(name: str, asked: str) -> bool:
    """Whether an episode is meant: by its name, or by the number that its name ends with."""
    return name.lower() == asked.lower() or (asked.isdecimal() and bool(re.fullmatch(rf"\D*{asked}", name)))


def _missing(ground: Ground, spec: TaskSpec, question: Question, seen: list[TransitionBatch]) -> str:
    """Say why no decision was found, with what was there instead."""
    moment, who = question.moment, question.agent or "any agent"
    when = f" from {moment_text(moment.start_ms)} to {moment_text(moment.end_ms)}" if moment else " lately"
    if not seen:
        if question.agent is not None and question.agent not in ground.agents(spec.task):
            return str(ground.unknown_agent(spec.task, question.agent))
        return f"the index has no rows of {who} in {spec.task}{when}; {ground.newest_text(spec.task)}"
    rows = concat(seen)
    apart = np.abs(rows.ts - (moment.start_ms if moment else rows.ts.max()))
    nearest = rows.take(np.arange(len(rows)) == apart.argmin())
    action = spec.actions[int(nearest.action[0])] if isinstance(spec.actions, tuple) else nearest.action[0].tolist()
    where = f"step {int(nearest.step[0])} of {nearest.episodes[int(nearest.episode[0])]}"
    return (
        f"no such decision of {who}{when}; the nearest is {where} at {moment_text(int(nearest.ts[0]))}, where "
        f"{nearest.agents[int(nearest.agent[0])]} took {action}"
    )


def _found(batches: list[TransitionBatch], row: TransitionBatch) -> Found:
    agent, episode = row.agents[int(row.agent[0])], row.episodes[int(row.episode[0])]
    before: dict[int, NDArray[np.float32]] = {}
    for rows in batches:
        if agent in rows.agents and episode in rows.episodes:
            same = (rows.agent == rows.agents.index(agent)) & (rows.episode == rows.episodes.index(episode))
            earlier = rows.take(same & (rows.step < row.step[0]))
            before |= dict(zip(earlier.step.tolist(), earlier.obs, strict=True))
    history = [before[step] for step in sorted(before)[-REMEMBERED:]]
    return Found(row, np.array(history, np.float32).reshape(len(history), row.obs.shape[1]))


def _batches(ground: Ground, spec: TaskSpec, agent: str | None, start_ms: int) -> Iterator[TransitionBatch]:
    group = None if agent is None else group_of(agent, spec.groups)
    for row in ground.index.scan(spec.task, start_ms, start_ms + spec.window_ms, group=group):
        yield decode_chunk(row.payload, row.checksum, row.reference)


def _back(ground: Ground, spec: TaskSpec, moment: Moment | None) -> list[int]:
    """Return the starts of the windows to look in: those of a moment in order, else the newest of a time first."""
    newest_ms = ground.newest_ms(spec.task)
    low_ms = max(0, moment.start_ms) if moment else 0
    high_ms = min(newest_ms, moment.end_ms - 1) if moment else newest_ms
    last_ms, first_ms = (ms - ms % spec.window_ms for ms in (high_ms, low_ms))
    starts = range(last_ms, max(first_ms - 1, last_ms - LOOKED_BACK * spec.window_ms), -spec.window_ms)
    return [*starts][:: -1 if moment and moment.point else 1]
