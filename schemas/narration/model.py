"""The port of a language model that writes sentences about facts, and what it may cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, runtime_checkable

from msgspec import Meta, Struct

from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.answer import Answer, AnswerSentence, Read
from headrace.schemas.ports import Backend
from headrace.schemas.records import Fact, Facts

Ask = Literal["report", "fact"]
"""What is asked at once: for a report's sentences, or, of a small model, for one sentence on one fact."""


class Limits(Struct, frozen=True):
    """What a model may cost a process on a day (UTC); what is over is told by the template.

    price_in, price_out: of a million tokens, in the currency of money_per_day. store: the file that holds answers and
    the day's spending, for who restarts; "" keeps them in memory.
    """

    tokens_per_day: Annotated[int, Meta(ge=0)] = 2_000_000
    seconds_per_day: Annotated[float, Meta(ge=0)] = 7_200.0
    money_per_day: Annotated[float, Meta(ge=0)] = 5.0
    price_in: Annotated[float, Meta(ge=0)] = 0.0
    price_out: Annotated[float, Meta(ge=0)] = 0.0
    store: str = ""


@dataclass(frozen=True, slots=True)
class Again:
    """What was wrong with an answer. read: as `answer.read` has it, one for each sentence of the answer."""

    answer: Answer
    read: Sequence[Read]
    wanted: tuple[Fact, ...]

    @property
    def complaints(self) -> str:
        """Return the complaints as a model is told them."""
        pairs = zip(self.answer.sentences, self.read, strict=False)
        wrong = [f"- {one.fact}: {'; '.join(found.complaints)}" for one, found in pairs if found.complaints]
        return "These sentences were refused; write them again, better, and no others:\n" + "\n".join(wrong)


@runtime_checkable
class NarrationModel(Backend, Protocol):
    """A language model that answers `question` by `answer_schema`, or `single.prompt` by `single.schema`.

    What it says is checked by `answer.read`.
    """

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def ask(self) -> Ask:
        """What it is asked at once."""

    @property
    def limits(self) -> Limits:
        """What it may cost."""

    @property
    def timeout_s(self) -> float:
        """How long all that is asked about one report's facts may take."""

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens so far, of questions and of answers."""

    def answer(self, facts: Facts, again: Again | None, limit_s: float) -> Answer:
        """Ask, or ask again. Raises UnavailableError, LanguageModelError, and of that UnreadableAnswerError."""

    def sentence(self, fact: Fact, aliases: Aliases, limit_s: float) -> AnswerSentence:
        """Ask for a sentence on one fact; raises as `answer` does."""
