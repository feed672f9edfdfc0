"""The narrator that asks a language model: in time, within its budgets, and with nothing believed that it says.

What is refused is asked for once more, with the complaints. What is refused again, or never comes, the template tells.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from headrace.pipelines.narrating.allowance import Allowance
from headrace.pipelines.narrating.composed import composed
from headrace.pipelines.narrating.store import Store, key_of
from headrace.schemas.errors import HeadraceError, UnreadableAnswerError
from headrace.schemas.grounding import problems
from headrace.schemas.narration import single
from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.answer import Answer, AnswerSentence, read
from headrace.schemas.narration.kinds import kind_of
from headrace.schemas.narration.model import Again, NarrationModel
from headrace.schemas.narration.question import INSTRUCTIONS, question, shown
from headrace.schemas.narration.ranking import mattered
from headrace.schemas.ports import Backend, Clock, Narrator
from headrace.schemas.records import Fact, Facts, Narrative

logger = logging.getLogger(__name__)

Told = tuple[AnswerSentence, ...]

LEAST_SHARE: Final = 0.1
"""Of the time-out that must be left for asking again."""


def narrating(opened: Narrator | NarrationModel, clock: Clock) -> Narrator:
    """Return a narrator: of what a setting opened that is one itself, or the one that asks the model."""
    return ModelNarrator(opened, clock) if isinstance(opened, NarrationModel) else opened


class ModelNarrator(Backend):
    """The port `Narrator`. Whatever the model does, `tell` returns in little more than its time-out, and is grounded.

    counters: ("asked",), ("cached",), ("barred", reason), ("failed",), ("refused", reason), ("fallback",), ("tokens",
    direction), ("seconds",).
    """

    def __init__(self, model: NarrationModel, clock: Clock, timer: Callable[[], float] = time.monotonic) -> None:
        self.name = model.name
        self._model = model
        self._clock = clock
        self._timer = timer
        self._store = Store(model.limits.store)
        self._allowance = Allowance(model.limits, timer)
        self._counts = Counter[tuple[str, ...]]()
        self._seconds = 0.0

    def about(self) -> str:
        """Ask the service whether it is there and knows the model."""
        return self._model.about()

    def counters(self) -> Mapping[tuple[str, ...], float]:
        """Return what the class says."""
        tokens_in, tokens_out = self._model.tokens
        totals = {("tokens", "in"): tokens_in, ("tokens", "out"): tokens_out, ("seconds",): self._seconds}
        return {**self._counts, **totals}

    def close(self) -> None:
        """Close the model and the store."""
        self._model.close()
        self._store.close()

    def tell(self, facts: Facts) -> Narrative:
        """Return the model's sentences that are grounded, and the template's for the rest."""
        found = read(Answer(self._sentences(facts)), facts)  # read again whatever it comes from: names are of now
        narrative, fallbacks = composed(facts, found, self.name)
        self._counts["fallback",] += fallbacks
        wrong = problems(narrative, facts)
        if not wrong:
            return narrative
        logger.error("%s %s: sentences that were let through are not grounded: %s", facts.task, facts.subject, wrong)
        return composed(facts, (), self.name)[0]

    def _sentences(self, facts: Facts) -> Told:
        """Return what the model says of the facts, grounded or not."""
        if not facts.facts:
            return ()
        deadline_s = self._timer() + self._model.timeout_s
        if self._model.ask == "report":
            key = key_of(self.name, INSTRUCTIONS, question(facts))
            return self._known(key, partial(self._exchange, facts, deadline_s)) or ()
        return self._one_by_one(facts, deadline_s)

    def _one_by_one(self, facts: Facts, deadline_s: float) -> Told:
        """Return a sentence on each fact that mattered; once it fails, is late or may not be asked, what is stored.

        What the report is about is told by the template alone: of several facts at once, such as a counterfactual's.
        """
        aliases, found, asks = Aliases(facts), list[AnswerSentence](), True
        for fact in [one for one in mattered(facts) if kind_of(one.fact_id).role != "verdict"]:
            key = key_of(self.name, single.INSTRUCTIONS, single.prompt(fact, aliases))
            told = self._known(key, partial(self._single, fact, facts, aliases, deadline_s) if asks else None)
            found += told or ()
            asks = asks and told is not None and self._timer() < deadline_s
        return tuple(found)

    def _known(self, key: str, ask: Callable[[], Told] | None) -> Told | None:
        """Return what the store has, else what the model says now; None where it may not be asked, or failed.

        ask: None where it is not to be asked.
        """
        known = self._store.sentences(key)
        if known is not None:
            self._counts["cached",] += 1
            return known
        if ask is None:
            return None
        barred = self._allowance.barred(self._store.spent(self._clock()))
        if barred is not None:
            self._counts["barred", barred] += 1
            return None
        found = self._asked(ask)
        if found is not None:
            self._store.keep(key, found)
        return found

    def _asked(self, ask: Callable[[], Told]) -> Told | None:
        """Ask, and note what it cost; None where the model failed."""
        begun_s, tokens = self._timer(), self._model.tokens
        found = None
        try:
            found = ask()
        except Exception as error:  # noqa: BLE001 whatever a model does must not keep a report back
            self._counts["failed",] += 1
            logger.warning("narrator %s: %s", self.name, error)
        finally:
            self._note(self._timer() - begun_s, tokens, failed=found is None)
        return found

    def _note(self, seconds: float, before: tuple[int, int], *, failed: bool) -> None:
        self._seconds += seconds
        self._allowance.used(seconds, failed=failed)
        tokens_in, tokens_out = (now - then for now, then in zip(self._model.tokens, before, strict=True))
        self._store.spend(self._clock(), self._allowance.cost(tokens_in, tokens_out, seconds))

    def _single(self, fact: Fact, facts: Facts, aliases: Aliases, deadline_s: float) -> Told:
        """Ask for a sentence on one fact; one that is refused is not asked for again: it would say the same."""
        self._counts["asked",] += 1
        said = self._model.sentence(fact, aliases, max(deadline_s - self._timer(), 0.001))
        return self._good(Answer((said,)), facts)

    def _exchange(self, facts: Facts, deadline_s: float) -> Told:
        """Ask, and once more about what was refused; raises as the model does where nothing readable came."""
        try:
            answer = self._answer(facts, None, deadline_s)
        except UnreadableAnswerError:
            return self._good(self._answer(facts, None, deadline_s), facts)
        good = self._good(answer, facts)
        again = _again(answer, facts)
        if again is None or deadline_s - self._timer() < LEAST_SHARE * self._model.timeout_s:
            return good
        try:
            more = self._answer(facts, again, deadline_s).sentences
        except HeadraceError as error:
            logger.warning("narrator %s of %s %s, asked again: %s", self.name, facts.task, facts.subject, error)
            return good
        return (*good, *self._good(Answer((*good, *more)), facts)[len(good) :])

    def _answer(self, facts: Facts, again: Again | None, deadline_s: float) -> Answer:
        self._counts["asked",] += 1
        return self._model.answer(facts, again, max(deadline_s - self._timer(), 0.001))

    def _good(self, answer: Answer, facts: Facts) -> Told:
        """Return the sentences that are grounded; the others are counted."""
        found = read(answer, facts)
        self._counts.update(("refused", reason) for one in found for reason in one.reasons)
        return tuple(said for said, one in zip(answer.sentences, found, strict=False) if one.sentence)


def _again(answer: Answer, facts: Facts) -> Again | None:
    """Return what is to be asked again: the facts whose sentences were refused, or all where there is no sentence."""
    found = read(answer, facts)
    told = {one.fact_id for one in found if one.sentence}
    refused = {one.fact_id for one in found if one.fact_id and not one.sentence} - told
    if told and not refused:
        return None
    left = tuple(fact for fact in shown(facts) if fact.fact_id not in told)
    return Again(answer, found, tuple(fact for fact in left if fact.fact_id in refused) or left)
