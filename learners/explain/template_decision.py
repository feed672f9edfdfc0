"""What the template says of one decision."""

from collections.abc import Iterator, Sequence

from headrace.learners.explain.phrases import MAX_NAMED, Known, Part, listed, under
from headrace.schemas.records import Direction, Fact, Sentence

MAX_SPOKE = 3
"""Observations that are said to have spoken for the action, and as many against it."""
LEAST_PART = 0.05
"""Of all attributions: what weighed less is not told."""


def decision_headline(facts: Known) -> Sentence:
    """Say what was done, and how clearly."""
    dimensions = under(facts, "decision.taken.")
    if dimensions:
        return Sentence(f"{{@subject}}: {_were(dimensions)}")
    text = "{@subject} took \u201c{decision.taken@name}\u201d"
    if "decision.best" in facts:
        return Sentence(f"{text}, where {{decision.version}} holds \u201c{{decision.best@name}}\u201d for best")
    if "decision.probability" in facts:
        return Sentence(f"{text}, with a probability of {{decision.probability}} by {{decision.version}}")
    nearest = min(under(facts, "margin."), key=lambda fact: fact.value, default=None)
    if nearest is None:
        return Sentence(text)
    return Sentence(f"{text}, which leads \u201c{{{nearest.fact_id}@name}}\u201d by {{{nearest.fact_id}}} in value")


def _were(dimensions: Sequence[Fact]) -> str:
    return listed([f"{{{one.fact_id}@name}} was {{{one.fact_id}}}" for one in dimensions[:MAX_NAMED]])


def _expected(facts: Known) -> Iterator[Sentence]:
    """Say what the version expects of it, or how a continuous action lies beside its own best."""
    if "decision.value" in facts:
        yield Sentence("{decision.version} expects a value of {decision.value} of it.")
    if "decision.best" in facts and "decision.probability" in facts:
        yield Sentence("It takes it with a probability of {decision.probability}: its actions are drawn.")
    for one in under(facts, "decision.best.")[:MAX_NAMED]:
        place = one.fact_id.removeprefix("decision.best.")
        text = f"For {{{one.fact_id}@name}} {{decision.version}} holds {{{one.fact_id}}} for best"
        text += f", {{decision.apart.{place}}} of its range from what was taken"
        room = f"; that lay {{decision.room.{place}}} of it from a bound" if f"decision.room.{place}" in facts else ""
        yield Sentence(f"{text}{room}.")


def _spoke(facts: Known) -> Iterator[Sentence]:
    """Say which observations mattered: what they were, and what they usually are."""
    found = sorted(under(facts, "attribution."), key=lambda fact: -abs(fact.value))
    least = LEAST_PART * sum(abs(fact.value) for fact in found)
    words: dict[Direction, str] = {"up": "spoke for it in", "down": "spoke against it in"}
    if "decision.taken" not in facts:
        words = {"up": "raised", "down": "lowered"}
    for direction, said in words.items():
        told = [one for one in found if one.direction == direction and abs(one.value) >= least][:MAX_SPOKE]
        if told:
            text = f"Beside a usual situation, what {said} {{decision.change@name}}: {'; '.join(map(_item, told))}."
            yield Sentence(text, {one.fact_id: direction for one in told})


def _item(fact: Fact) -> str:
    key = fact.fact_id.removeprefix("attribution.")
    return f"{{{fact.fact_id}@name}} at {{seen.{key}}}, usually {{typical.{key}}} ({{{fact.fact_id}}})"


def _counterfactual(facts: Known) -> Iterator[Sentence]:
    """Say what would have had to be otherwise."""
    if "decision.firm" in facts:
        yield Sentence("No value that recent rows had of {decision.firm}, alone or by pairs, gives another choice.")
    changes = [key.removeprefix("counterfactual.") for key in facts if key.startswith("counterfactual.")]
    if not changes or "decision.otherwise" not in facts:
        return
    items = [
        f"{{counterfactual.{key}@name}} been {{counterfactual.{key}}} in place of {{seen.{key}}}" for key in changes
    ]
    named = "the first choice would have been \u201c{decision.otherwise@name}\u201d"
    if "decision.taken" not in facts:
        named = "the best for {decision.otherwise@name} would have been {decision.otherwise}"
    yield Sentence(f"Had {listed(items)}, {named}, all else as it was.")


def _rules(facts: Known) -> Iterator[Sentence]:
    """Say what rules would have done."""
    taken = facts.get("decision.taken")
    rules = under(facts, "rule.")
    if taken is None or not rules:
        return
    alike = [one.fact_id for one in rules if one.value == taken.value]
    others = [one.fact_id for one in rules if one.value != taken.value]
    if alike:
        yield Sentence(f"The same would be done by {listed([f'{{{key}@name}}' for key in alike[:MAX_NAMED]])}.")
    if others:
        items = "; ".join(f"{{{key}@label}}" for key in others[:MAX_NAMED])
        yield Sentence(f"It would be decided otherwise by {items}.")


def _similar(facts: Known) -> Iterator[Sentence]:
    """Say what was done in past decisions like it, and what followed."""
    if "similar.count" not in facts:
        return
    yield Sentence("Of {similar.count} like it in the past, the same was done in {similar.same}.")
    followed = {"similar.reward": "the same action", "similar.otherwise": "another"}
    items = [f"{{{key}}} after {words}" for key, words in followed.items() if key in facts]
    yield Sentence(f"The reward that followed there was {listed(items)}.")
    if "similar.1.reward" in facts:
        yield Sentence("The nearest is {similar.1.reward@name}, with a reward of {similar.1.reward}.")


def _imitated(facts: Known) -> Iterator[Sentence]:
    """Say how a small tree comes to it."""
    conditions = [f"{{{one.fact_id}@name}}" for one in under(facts, "path.") if one.fact_id.count(".") == 2]
    if not conditions or "path.action" not in facts:
        return
    end = "\u201c{path.action@name}\u201d" if "decision.taken" in facts else "{path.action}"
    right = "which is right in {path.fidelity} of its decisions"
    if "decision.taken" not in facts:
        right = "which accounts for {path.fidelity} of how it varies"
    yield Sentence(f"A small tree that imitates it, {right}, comes to {end} by {listed(conditions[:MAX_NAMED])}.")


DECISION_PARTS: tuple[Part, ...] = (_expected, _spoke, _counterfactual, _rules, _similar, _imitated)
