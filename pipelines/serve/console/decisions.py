"""Why this action? An agent's newest decisions, and one of them with its facts and what followed similar ones."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import numpy as np
from numpy.typing import NDArray

from headrace.learners.explain.template import TemplateNarrator
from headrace.pipelines.ask.decisions import decision, find
from headrace.pipelines.ask.ground import Ground
from headrace.pipelines.ask.question import Moment, Question
from headrace.pipelines.query.similar import StepKey, similar
from headrace.schemas.chunk import decode_chunk
from headrace.schemas.grounding import fill, format_fact, format_interval
from headrace.schemas.partition import group_of
from headrace.schemas.ports import Index
from headrace.schemas.records import ID_PATTERN, MAX_TS_MS, Fact, TaskSpec
from headrace.schemas.transition import TransitionBatch

SHOWN: Final = 12
LOOKED_WINDOWS: Final = 8
LOOKED_CHUNKS: Final = 8
"""Of a window, where no agent is named: the newest decisions of some agents are enough."""
MOST_FIELDS: Final = 32
SIMILAR: Final = 5
FOLLOWED_STEPS: Final = 5
GROUPS: Final[Mapping[str, str]] = {
    "decision": "What it did",
    "counterfactual": "What would have changed it",
    "margin": "Lead over the other actions",
    "rule": "What the rules would have done",
    "similar": "Similar past decisions",
    "path": "A small tree that imitates it",
}
"""Headings, by how a fact's id begins, in this order."""
SIDE_BY_SIDE: Final = frozenset({"attribution", "seen", "typical"})


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whose decisions are listed, and which one is looked at: what the page's address says."""

    agent: str = ""
    episode: str = ""
    step: int | None = None
    at_ms: int = 0
    of: str = ""

    @property
    def one(self) -> bool:
        """Whether a decision is looked at."""
        return bool(self.of and self.episode and self.step is not None)

    @property
    def query(self) -> str:
        """The address's part after the question mark."""
        named = {
            "agent": self.agent,
            "of": self.of,
            "episode": self.episode,
            "step": self.step,
            "at": self.at_ms or None,
        }
        return urlencode({name: value for name, value in named.items() if value not in {"", None}})

    def at(self, row: "Row") -> "Chosen":
        """Look at a decision of the list."""
        return replace(self, of=row.agent, episode=row.episode, step=row.step, at_ms=row.ts)

    def is_at(self, row: "Row") -> bool:
        """Whether it is this decision that is looked at."""
        return (self.of, self.episode, self.step) == (row.agent, row.episode, row.step)

    @classmethod
    def read(cls, query: str) -> "Chosen":
        """Read an address's query; what is no name or number of ours is passed over."""
        sent = dict(parse_qsl(query, max_num_fields=MOST_FIELDS))
        names = {
            name: sent[name]
            for name in ("agent", "of", "episode")
            if re.fullmatch(ID_PATTERN[1:-1], sent.get(name, ""))
        }
        step, at_ms = (
            int(sent.get(name, "")) if re.fullmatch(r"[0-9]{1,15}", sent.get(name, "")) else None
            for name in ("step", "at")
        )
        return cls(**names, step=step, at_ms=min(at_ms or 0, MAX_TS_MS - 1))


@dataclass(frozen=True, slots=True)
class Row:
    """A decision in the list."""

    agent: str
    episode: str
    step: int
    ts: int
    action: str
    reward: float
    version: int | None


def newest(index: Index, spec: TaskSpec, agent: str, starts: Sequence[int]) -> list[Row]:
    """Return the newest decisions of an agent, or of some agents one each. starts: of windows, the newest first."""
    for start_ms in starts[:LOOKED_WINDOWS]:
        found = [*_rows(_batches(index, spec, agent, start_ms), spec, agent)]
        if found:
            return sorted(found, key=lambda row: (-row.ts, row.agent, -row.step))[:SHOWN]
    return []


def _batches(index: Index, spec: TaskSpec, agent: str, start_ms: int) -> Iterator[TransitionBatch]:
    group = group_of(agent, spec.groups) if agent else None
    chunks = index.scan(spec.task, start_ms, start_ms + spec.window_ms, group=group)
    for chunk in chunks if agent else islice(chunks, LOOKED_CHUNKS):
        yield decode_chunk(chunk.payload, chunk.checksum, chunk.reference)


def _rows(batches: Iterable[TransitionBatch], spec: TaskSpec, agent: str) -> Iterator[Row]:
    newest_of: dict[str, Row] = {}
    for batch in batches:
        order = np.lexsort((batch.step, batch.ts))
        if agent:
            own = order[np.array([batch.agents[code] == agent for code in batch.agent[order].tolist()], bool)]
            yield from (_row(batch, int(place), spec) for place in own[-SHOWN:])
            continue
        for place in order[-SHOWN * 4 :].tolist():
            row = _row(batch, place, spec)
            newest_of[row.agent] = max(row, newest_of.get(row.agent, row), key=lambda one: (one.ts, one.step))
    yield from newest_of.values()


def _row(batch: TransitionBatch, place: int, spec: TaskSpec) -> Row:
    version, reward = int(batch.policy_version[place]), float(batch.reward[place])
    return Row(
        batch.agents[int(batch.agent[place])],
        batch.episodes[int(batch.episode[place])],
        int(batch.step[place]),
        int(batch.ts[place]),
        _action(batch.action[place], spec),
        reward if math.isfinite(reward) else math.nan,
        version if version > 0 else None,
    )


def _action(action: Any, spec: TaskSpec) -> str:  # noqa: ANN401 a number or an array of them
    if isinstance(spec.actions, tuple):
        return spec.actions[int(action)]
    return ", ".join(f"{value:.3g}" for value in np.atleast_1d(action).tolist())


@dataclass(frozen=True, slots=True)
class Explained:
    """A decision: what is told of it, its facts by heading (label, value, interval), and similar past ones.

    mattered: by observation what was seen, what is usual, and its part in the decision.
    """

    subject: str
    sentences: list[str]
    mattered: list[tuple[str, str, str, str]]
    facts: dict[str, list[tuple[str, str, str]]]
    similar: list[dict[str, Any]]


def explained(ground: Ground, spec: TaskSpec, chosen: Chosen) -> Explained:
    """Compute what may be said of a decision. Raises NotKnownError."""
    moment = Moment(chosen.at_ms, chosen.at_ms + 1, point=True) if chosen.at_ms else None
    asked = Question("why", spec.task, chosen.of, moment, chosen.episode, chosen.step)
    facts = decision(ground, asked)
    obs = find(ground, spec, asked).row.obs[0]
    narrative = TemplateNarrator().tell(facts)
    told = [fill(one, facts, typographic=True) for one in (narrative.headline, *narrative.sentences)]
    return Explained(
        facts.subject, told, _mattered(facts.facts), _grouped(facts.facts), _similar(ground.index, spec, chosen, obs)
    )


def _mattered(facts: Sequence[Fact]) -> list[tuple[str, str, str, str]]:
    """Put what was seen, what is usual and what it did for the decision side by side."""
    told = {fact.fact_id: format_fact(fact, "value", typographic=True) for fact in facts}
    found = []
    for fact in facts:
        begin, _, name = fact.fact_id.partition(".")
        if begin == "attribution":
            seen, usual = (told.get(f"{one}.{name}", "") for one in ("seen", "typical"))
            found.append((format_fact(fact, "name", typographic=True), seen, usual, told[fact.fact_id]))
    return found


def _grouped(facts: Sequence[Fact]) -> dict[str, list[tuple[str, str, str]]]:
    found: dict[str, list[tuple[str, str, str]]] = {heading: [] for heading in GROUPS.values()}
    for fact in facts:
        begin = fact.fact_id.split(".", 1)[0]
        if begin in SIDE_BY_SIDE:
            continue
        heading = GROUPS.get(begin, "Basis")
        label, value = (format_fact(fact, part, typographic=True) for part in ("label", "value"))
        found.setdefault(heading, []).append((label, value, format_interval(fact)))
    return {heading: rows for heading, rows in found.items() if rows}


def _similar(index: Index, spec: TaskSpec, chosen: Chosen, obs: NDArray[np.float32]) -> list[dict[str, Any]]:
    place = StepKey(chosen.of, chosen.episode, chosen.step or 0)
    found = [*similar(index, spec, obs, limit=SIMILAR, steps=FOLLOWED_STEPS, apart=place)]
    for one in found:
        one["action"] = _action(one["action"], spec)
    return found
