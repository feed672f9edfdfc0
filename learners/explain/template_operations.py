"""The template's sentences on how the jobs ran and what was wrong with the data."""

from collections.abc import Iterator
from typing import Final

from headrace.learners.explain.phrases import Known, Part, listed, rules_broken, under
from headrace.schemas.grounding import placed
from headrace.schemas.records import Fact, Facts, Sentence

OUTAGE: Final = "operations.outage."
ABOUT: Final = ("operations.", "rejected.", "rows.duplicates", "rows.late", "rows.unreported")
"""How the ids of facts begin that are about operations."""


def on_operations(sentence: Sentence) -> bool:
    """Whether a sentence is about operations alone."""
    shown = placed(sentence)
    return bool(shown) and all(one.fact_id.startswith(ABOUT) for one in shown)


def operations_told(facts: Facts) -> tuple[Sentence, ...]:
    """Return the sentences on operations that the facts allow."""
    known = {fact.fact_id: fact for fact in facts.facts}
    return tuple(sentence for part in OPERATIONS_PARTS for sentence in part(known))


def amiss(facts: Facts) -> bool:
    """Whether anything was, of what the sentences tell."""
    told = ("operations.failures.", OUTAGE, "operations.rollbacks", "rejected.", "rows.late", "rows.unreported")
    return any(fact.value for fact in facts.facts if fact.fact_id.startswith(told))


def _serving(facts: Known) -> Iterator[Sentence]:
    """What changed in what serves."""
    if "operations.promotions" in facts:
        yield Sentence("{operations.promotions} came to serve.")
    if "operations.rollbacks" in facts:
        yield Sentence("{operations.rollbacks} let an earlier version serve again, or none.")


def _jobs(facts: Known) -> Iterator[Sentence]:
    """How the jobs ran; that nothing happened to them is worth a sentence too."""
    if "operations.runs" not in facts:
        return
    starts, failures = (under(facts, f"operations.{what}.") for what in ("starts", "failures"))
    were = "was" if facts["operations.runs"].value == 1 else "were"
    text = f"{{operations.runs}} of the jobs {were} at work {{operations.runs@name}} (by the log's clock)"
    text += f", with {_by_job(starts)}" if starts else ""
    quiet = not failures and not under(facts, OUTAGE)
    yield Sentence(text + ("; nothing failed, was killed or did not answer." if quiet else "."))
    if failures:
        were = "was" if sum(fact.value for fact in failures) == 1 else "were"
        yield Sentence(f"{_by_job(failures)} failed or {were} killed.")
    if fenced := under(facts, "operations.fenced."):
        were = "was" if sum(fact.value for fact in fenced) == 1 else "were"
        yield Sentence(f"{_by_job(fenced)} {were} refused, as another process had gone on with the same messages.")


def _by_job(counts: list[Fact]) -> str:
    return listed([f"{{{fact.fact_id}}} of {{{fact.fact_id}@name}}" for fact in counts])


def _outages(facts: Known) -> Iterator[Sentence]:
    """What did not answer, since when and for how long."""
    for fact in under(facts, OUTAGE):
        dependency = fact.fact_id.removeprefix(OUTAGE)
        count, longest = f"operations.outages.{dependency}", f"operations.longest.{dependency}"
        text = f"For {{{fact.fact_id}}} {{{fact.fact_id}@name}} did not answer, {{{count}@name}}"
        if longest in facts:
            text += f": {{{count}}}, of which the longest took {{{longest}}}"
        yield Sentence(text + ".")


def _lag(facts: Known) -> Iterator[Sentence]:
    lags = under(facts, "operations.lag.")
    if lags:
        items = listed([f"{{{fact.fact_id}}} for {{{fact.fact_id}@name}}" for fact in lags])
        yield Sentence(f"At most {items} were waiting when the jobs counted them.")


def _quality(facts: Known) -> Iterator[Sentence]:
    """What was wrong with the data, and that nothing was, which is worth saying too."""
    total = facts.get("rejected.total")
    if total is not None and total.value == 0:
        yield Sentence("No message of any task was rejected {rejected.total@name} (by the log's clock).")
    elif total is not None:
        items = rules_broken(facts)
        ending = f", by {listed(items)}" if items else ""
        plural = "was" if total.value == 1 else "were"
        when = "{rejected.total@name} (of all tasks, by the log's clock)"
        yield Sentence(f"{{rejected.total}} {plural} rejected {when}{ending}.")
    noted = [
        f"{{{key}}} {text}"
        for key, text in (
            ("rows.duplicates", "came again"),
            ("rows.late", "came late"),
            ("rows.unreported", "of earlier intervals came too late for their own report"),
        )
        if key in facts and facts[key].value != 0
    ]
    if noted:
        yield Sentence(f"{listed(noted)}.")


OPERATIONS_PARTS: tuple[Part, ...] = (_serving, _jobs, _outages, _lag, _quality)
