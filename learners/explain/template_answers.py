"""What the template says where a question was asked of a version, of what serves, of agents or of the data."""

from collections.abc import Iterator

from headrace.learners.explain.phrases import MAX_NAMED, Known, by_direction, listed, rules_broken, under
from headrace.schemas.records import Direction, Sentence


def answer_headline(kind: str, facts: Known) -> Sentence | None:
    """Say the answer itself; None where the kind has no headline of its own, or the facts for it are not there."""
    if kind == "activity" and "count.taken" in facts:
        return Sentence("\u201c{count.taken@name}\u201d was taken {count.taken}")
    if kind == "health":
        return _rejected(facts)
    if kind == "verdict" and "verdict.refused" in facts:
        return Sentence("{asked.verdict} was refused by {verdict.refused@name}")
    texts = {
        "serving": "{asked.serving} has served {@task} {asked.serving@name}",
        "verdict": "{asked.verdict} was let serve by {verdict.served@name}",
        "change": "What {asked.change} does otherwise",
        "behaviour": "What {asked.behaviour} does",
        "importance": "What {asked.importance} goes by",
    }
    return Sentence(texts[kind]) if kind in texts else None


def _rejected(facts: Known) -> Sentence:
    total = facts["rejected.total"]
    if total.value == 0:
        return Sentence("No message was rejected {rejected.total@name}")
    return Sentence(f"{{rejected.total}} {'was' if total.value == 1 else 'were'} rejected {{rejected.total@name}}")


def serving(facts: Known) -> Iterator[Sentence]:
    """Say who let it serve, what served before, and who tries another."""
    yield Sentence("It was let serve by {serving.decided@name}.")
    if "serving.before" in facts:
        yield Sentence("Before it, {serving.before} served.")
    if "serving.other" in facts:
        yield Sentence("{serving.other} does not serve.")
    if "serving.agent" in facts:
        yield Sentence("{serving.agent@name} acts by {serving.agent}.")
    if "serving.canary" in facts:
        yield Sentence("{serving.canary} is a canary: {serving.share} of the agents try it.")
    if "serving.held" in facts:
        yield Sentence("Promotion is on hold, so that {serving.held} stays.")


def compared(facts: Known) -> Iterator[Sentence]:
    """Say what the gate, or the version's report, found against each opponent."""
    for fact in under(facts, "return.vs-")[:MAX_NAMED]:
        words: dict[Direction, str] = {
            "up": f"It is better than {{{fact.fact_id}@name}} by {{{fact.fact_id}}}.",
            "down": f"It is worse than {{{fact.fact_id}@name}}: {{{fact.fact_id}}}.",
            "flat": f"It is not shown to differ from {{{fact.fact_id}@name}}: {{{fact.fact_id}}}.",
        }
        if fact.direction is not None:
            yield by_direction(facts, fact.fact_id, words)
        else:
            yield Sentence(f"Beside {{{fact.fact_id}@name}} it stands at {{{fact.fact_id}}}: no difference is shown.")


def level(facts: Known) -> Iterator[Sentence]:
    """Say what it earns itself."""
    if "return.policy" in facts:
        on = " on {traces.count}" if "traces.count" in facts else ""
        yield Sentence(f"Its own return is {{return.policy}}{on}.")


def actions(facts: Known) -> Iterator[Sentence]:
    """Say which actions were taken how often."""
    shares = sorted(under(facts, "action."), key=lambda fact: -fact.value)[:MAX_NAMED]
    if shares:
        items = [f"\u201c{{{fact.fact_id}@name}}\u201d in {{{fact.fact_id}}}" for fact in shares]
        yield Sentence(f"They took {listed(items)} of their actions.")


def rules(facts: Known) -> Iterator[Sentence]:
    """Say which rules rejected messages, and what became of rows."""
    broken = rules_broken(facts)
    if broken:
        yield Sentence(f"They broke {listed(broken)}.")
    yield Sentence("The index has {asked.health} of {@subject}; {rows.duplicates} came again and were not counted.")
    if "rows.late" in facts:
        yield Sentence("{rows.late} came after their window was first closed; they count as well.")
