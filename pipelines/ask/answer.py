"""A question's answer: what was asked, the facts that answer it, and sentences that are checked against them."""

from collections.abc import Callable, Mapping
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from headrace.pipelines.ask.decisions import decision
from headrace.pipelines.ask.fleet import activity, health, serving
from headrace.pipelines.ask.ground import Ground, NotKnownError
from headrace.pipelines.ask.question import MOST_CHARACTERS, OF_DECISIONS, Kind, Question
from headrace.pipelines.ask.router import route
from headrace.pipelines.ask.slots import Names
from headrace.pipelines.ask.times import UnknownZoneError
from headrace.pipelines.ask.versions import BEHAVIOUR, CHANGE, IMPORTANCE, MERIT, VERDICT, about
from headrace.schemas.grounding import check, fill
from headrace.schemas.ports import Narrator
from headrace.schemas.reasons import did_you_mean
from headrace.schemas.records import MAX_TS_MS, Facts, Narrative, TaskSpec

LookUp = Callable[[Ground, Question], Facts]

LOOK_UPS: Final[Mapping[Kind, LookUp]] = {
    **dict.fromkeys(OF_DECISIONS, decision),
    "behaviour": about("behaviour", BEHAVIOUR),
    "change": about("change", CHANGE),
    "verdict": about("verdict", VERDICT),
    "merit": about("merit", MERIT),
    "serving": serving,
    "activity": activity,
    "health": health,
}
OUT_OF_SCOPE: Final = (
    "out of scope: ask about one decision (why, what mattered, what was expected, why not another action, what would "
    "have changed it, similar ones), a version (what it does, what changed, why it serves or was refused, how good it "
    "is), what serves, what agents did, or what was rejected. An example: why did web-07 scale down at 14:05?"
)
OUT_OF_TIME: Final = "the time that is asked about lies before 1970 or after 9999, and no row has such a time"
_LAST_MS: Final = MAX_TS_MS - 31 * 86_400_000
"""A window that begins then ends before the calendar does."""


class Answer(Struct, frozen=True):
    """An answer. not_known: what is missing, where there is none. sentences: with names and numbers in place."""

    question: Question
    sentences: tuple[str, ...] = ()
    facts: Facts | None = None
    narrative: Narrative | None = None
    not_known: str = ""


class Asker:
    """Answers questions; what it has prepared of a version stays for the next one."""

    def __init__(self, ground: Ground, narrator: Narrator) -> None:
        self.ground = ground
        self.narrator = narrator

    def ask(self, text: str, zone: ZoneInfo, task: str | None = None, at_ms: int | None = None) -> Answer:
        """Answer a question. task: the one that is asked about. at_ms: "now", the newest row's time if not given."""
        if len(text) > MOST_CHARACTERS:
            told = f"a question has {MOST_CHARACTERS} characters at most, and this one has {len(text)}"
            return Answer(Question(None), not_known=told)
        try:
            question = self._routed(text, zone, task, at_ms)
        except NotKnownError as error:
            return Answer(Question(None), not_known=str(error))
        return self.answer(question)

    def answer(self, question: Question) -> Answer:
        """Answer a question that is understood."""
        try:
            facts = self._look_up(question)
        except NotKnownError as error:
            return Answer(question, not_known=str(error))
        narrative = self.narrator.tell(facts)
        check(narrative, facts)
        sentences = (narrative.headline, *narrative.sentences)
        return Answer(question, tuple(fill(one, facts) for one in sentences), facts, narrative)

    def _routed(self, text: str, zone: ZoneInfo, task: str | None, at_ms: int | None) -> Question:
        ground = self.ground
        if task is not None and task not in ground.specs:
            raise _unknown_task(task, ground.specs)
        names = Names(ground.specs, ground.agents, ground.rules)
        now_ms = ground.newest_ms(task) if at_ms is None else at_ms
        try:
            question = route(text, names, now_ms, zone, task)
        except OverflowError as error:
            raise NotKnownError(OUT_OF_TIME) from error
        except UnknownZoneError as error:
            raise NotKnownError(str(error)) from error
        if question.moment is not None and not 0 < question.moment.end_ms <= _LAST_MS:
            raise NotKnownError(OUT_OF_TIME)
        return question

    def _look_up(self, question: Question) -> Facts:
        if question.kind is None:
            raise NotKnownError(OUT_OF_SCOPE)
        specs = self.ground.specs
        if question.task is None:
            if len(specs) != 1:
                known = ", ".join(sorted(specs)) or "none yet; `headrace task add FILE` adds one"
                raise NotKnownError(f"which task is meant: name one, or say --task. Known: {known}")
            question = replace(question, task=next(iter(specs)))
        if question.task not in specs:
            raise _unknown_task(str(question.task), specs)
        of_version = question.version is not None and not (question.agent or question.moment or question.step)
        if question.kind == "importance" and of_version:
            return about("importance", IMPORTANCE)(self.ground, question)
        assert question.kind is not None
        return LOOK_UPS[question.kind](self.ground, question)


def _unknown_task(task: str, specs: Mapping[str, TaskSpec]) -> NotKnownError:
    known = ", ".join(sorted(specs)) or "none yet"
    return NotKnownError(f"task {task!r} was never added{did_you_mean(task, specs) or ';'} known: {known}")
