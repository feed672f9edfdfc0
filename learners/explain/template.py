"""The narrator that needs no model: sentences chosen by the facts' directions, verdict first."""

from collections.abc import Iterator
from typing import Final

from headrace.learners.explain.evidence import CLAIRVOYANT
from headrace.learners.explain.phrases import MAX_NAMED, Known, Part, by_direction, listed, under
from headrace.learners.explain.template_answers import (
    actions,
    answer_headline,
    compared,
    level,
    rules,
    serving,
)
from headrace.learners.explain.template_decision import DECISION_PARTS, decision_headline
from headrace.learners.explain.template_operations import OPERATIONS_PARTS
from headrace.learners.explain.template_outcomes import (
    against_verdict,
    in_headline,
    interval_outcomes,
    version_outcomes,
)
from headrace.schemas.grounding import GOOD_UNITS
from headrace.schemas.narration.question import subject_of
from headrace.schemas.ports import Adapter, Backend
from headrace.schemas.records import Direction, Fact, Facts, Narrative, Sentence

RETURN_VS = "return.vs-"
UPPER_BOUND = f"{RETURN_VS}{CLAIRVOYANT}"


class TemplateNarrator(Backend):
    """The port `Narrator`. Pure: the same facts give the same sentences, and they are always grounded."""

    def tell(self, facts: Facts) -> Narrative:
        """Return the sentences that the facts allow; what is not known is left out."""
        by_id = {fact.fact_id: fact for fact in facts.facts}
        subject = subject_of(facts)
        sentences = tuple(sentence for part in PARTS[subject] for sentence in part(by_id))
        return Narrative("template", answer_headline(subject, by_id) or _headline(by_id), sentences)


BARE = Narrative("template", Sentence("Report on {@subject}"), ())
"""What can be said of any facts."""


def _headline(facts: Known) -> Sentence:
    """The verdict, as short as a mail's subject."""
    if "version.policy" in facts or "asked.merit" in facts:
        return _version_headline(facts)
    if any(key.startswith("decision.") for key in facts):
        return decision_headline(facts)
    first = in_headline(facts)
    before, part = (f"{first}; mean", "@value") if first else ("Mean", "")
    if _is_change(facts, "reward.change"):
        words: dict[Direction, str] = {
            "up": f"{before} reward rose by {{reward.change{part}}}",
            "down": f"{before} reward fell by {{reward.change@size}}",
            "flat": f"{before} reward is not shown to have changed: {{reward.change{part}}}",
        }
        return by_direction(facts, "reward.change", words)
    if "reward.mean" in facts:
        return Sentence(f"{before} reward was {{reward.mean}}")
    return BARE.headline


def _version_headline(facts: Known) -> Sentence:
    against = next((key for key in _rivals(facts) if _is_change(facts, f"{RETURN_VS}{key}")), None)
    own = "{version.policy}" if "version.policy" in facts else "{asked.merit}"
    if against is None:
        return Sentence(f"{own} serves now" if "version.policy" in facts else f"How good {own} is")
    fact_id = f"{RETURN_VS}{against}"
    known = against == "serving" and "version.previous" in facts
    rival = "{version.previous}" if known else f"{{{fact_id}@name}}"
    verdict = facts[fact_id].direction or "flat"
    contrary = against_verdict(facts, against, verdict)
    if contrary:
        # "Better" before numbers that are worse would be read of them: so the return alone is said to be more.
        more = "more" if verdict == "up" else "less"
        return Sentence(f"{own} returns {more} than {rival} ({{{fact_id}@value}}), but: {contrary}", {fact_id: verdict})
    first = in_headline(facts, against)
    if first:
        rest = f"{rival}: {first}; {{{fact_id}@value}}"
        verdicts: dict[Direction, str] = {
            "up": f"{own} is better than {rest}",
            "down": f"{own} is worse than {rest}",
            "flat": f"{own} is not shown to differ from {rest}",
        }
        return by_direction(facts, fact_id, verdicts)
    words: dict[Direction, str] = {
        "up": f"{own} is better than {rival} by {{{fact_id}}}",
        "down": f"{own} is worse than {rival}: {{{fact_id}}}",
        "flat": f"{own} is not shown to differ from {rival}: {{{fact_id}}}",
    }
    return by_direction(facts, fact_id, words)


def _is_change(facts: Known, fact_id: str) -> bool:
    return fact_id in facts and facts[fact_id].direction is not None and facts[fact_id].unit in GOOD_UNITS


def _rivals(facts: Known) -> list[str]:
    """Whom a headline compares with: the first that there is, as the facts have them."""
    return [key.removeprefix(RETURN_VS) for key in facts if key.startswith(RETURN_VS) and key != UPPER_BOUND]


def _changes(facts: Known, prefix: str, suffix: str, direction: Direction) -> list[Fact]:
    """Return the changes whose id has the prefix and suffix and that go one way, the greatest first."""
    found = [
        fact
        for key, fact in facts.items()
        if key.startswith(prefix) and key.endswith(suffix) and fact.direction == direction and fact.unit in GOOD_UNITS
    ]
    return sorted(found, key=lambda fact: -abs(fact.value))[:MAX_NAMED]


Forms = dict[Direction, tuple[str, str]]
"""By direction: words, and a template for each change that they hold of with `FACT` for its id."""


def _contrast(
    facts: Known, prefix: str, suffix: str, forms: Forms, before: str, after: str = "", joint: str = "; it "
) -> Iterator[Sentence]:
    """Say in one sentence what holds of each of the changes with the prefix and suffix; nothing without any."""
    texts, claims = list[str](), dict[str, Direction]()
    for direction, (words, item) in forms.items():
        changes = _changes(facts, prefix, suffix, direction)
        if changes:
            texts.append(f"{words} {listed([item.replace('FACT', fact.fact_id) for fact in changes])}".strip())
            claims |= {fact.fact_id: direction for fact in changes}
    if texts:
        yield Sentence(f"{before} {joint.join(texts)}{after}.", claims)


def _baselines(facts: Known) -> Iterator[Sentence]:
    """How the version stands against the rules that it could be replaced by."""
    rules = {key: fact for key, fact in facts.items() if key not in {f"{RETURN_VS}serving", UPPER_BOUND}}
    forms: Forms = {
        "up": ("beats", "{FACT@name} by {FACT@size}"),
        "down": ("is worse than", "{FACT@name} by {FACT@size}"),
        "flat": ("is not shown to differ from", "{FACT@name}"),
    }
    yield from _contrast(rules, RETURN_VS, "", forms, "It", " (on {traces.count})" if "traces.count" in facts else "")
    if UPPER_BOUND in facts and facts[UPPER_BOUND].direction == "down":
        yield Sentence(
            f"What is left to win at most is {{{UPPER_BOUND}@size}}: that is the lead of "
            f"{{{UPPER_BOUND}@name}}, which knows the future."
        )


def _terms(facts: Known) -> Iterator[Sentence]:
    """Which parts of the reward made the difference to the version before, else to a rule."""
    terms = [key for key in facts if key.startswith("term.")]
    rival = next((one for one in _rivals(facts) if any(key.endswith(f".vs-{one}") for key in terms)), None)
    if rival is not None:
        before = "Against the version before, it" if rival == "serving" else "Against the rule, it"
        forms: Forms = {
            "up": ("is better in", "{FACT@name} by {FACT@size}"),
            "down": ("is worse in", "{FACT@name} by {FACT@size}"),
            "flat": ("is not shown to differ in", "{FACT@name}"),
        }
        yield from _contrast(facts, "term.", f".vs-{rival}", forms, before)


def _judged(facts: Known) -> Iterator[Sentence]:
    """How it was tested, and what agents earned before it."""
    for kind, text in JUDGED.items():
        if f"judged.{kind}" in facts:
            yield Sentence(text)
    if "gate.rows" in facts:
        yield Sentence("What the gate says of it rests on {gate.rows}, and its returns are discounted.")
    yield from _refused(facts)
    for key in [key for key in facts if key.startswith("observed.")]:
        each = "an episode" if facts[key].unit == "return" else "a step"
        yield Sentence(f"Before it, agents that acted by {{{key}@name}} earned {{{key}}} {each}, exploration and all.")


def _refused(facts: Known) -> Iterator[Sentence]:
    """That the gate goes on refusing, and what learning did then."""
    if "refusals.count" in facts:
        row = "" if facts["refusals.count"].value == 1 else " in a row"
        yield Sentence(f"The gate refused {{refusals.count}}{row}, {{refusals.count@name}}.")
    if "weights.back" in facts:
        yield Sentence("Learning went back to the weights of {weights.back} after that.")


def _drawn(facts: Known) -> Iterator[Sentence]:
    if "actions.drawn" in facts:
        measured = ", and the returns here are of such draws" if "traces.count" in facts else ""
        yield Sentence(f"Agents draw its actions{measured}; the actions named here are its most likely ones.")


def _behaviour(facts: Known) -> Iterator[Sentence]:
    """What it does most, situation by situation, each in a sentence of its own."""
    for key in [key for key in facts if key.startswith("situation.")]:
        actions = under(facts, f"action.{key.removeprefix('situation.')}.")
        if actions and actions[0].unit == "%":
            most = max(actions, key=lambda fact: fact.value).fact_id
            # In quotation marks, because a name may be a number: "0".
            yield Sentence(
                f"Where {{{key}@name}}, it takes \u201c{{{most}@name}}\u201d in {{{most}@value}} of {{{key}}}."
            )
        elif actions:
            items = listed([f"{{{fact.fact_id}@name}} is {{{fact.fact_id}}}" for fact in actions[:MAX_NAMED]])
            yield Sentence(f"Where {{{key}@name}}, {items} on average (in {{{key}}}).")
    if "situations.explained" in facts:
        kind = "of its decisions" if any(key.startswith("margin.") for key in facts) else "of how its action varies"
        yield Sentence(f"These situations alone account for {{situations.explained}} {kind}.")


def _limits(facts: Known) -> Iterator[Sentence]:
    """How often a continuous action lies at a bound, how smoothly it runs, and how far the version before was."""
    for key in [key for key in facts if key.startswith("smoothness.")][:MAX_NAMED]:
        place = key.removeprefix("smoothness.")
        text = f"From each step to the next {{{key}@name}} moves by {{{key}}} of its range on average"
        sides = {side: f"saturation.{place}.{side}" for side in ("lowest", "highest")}
        items = [f"at its {side} value in {{{one}}}" for side, one in sides.items() if one in facts]
        yield Sentence(text + (f"; it lies {listed(items)} of decisions." if items else "."))
    if "apart.serving" in facts:
        yield Sentence("What {apart.serving@name} would do lies {apart.serving} of the range away on average.")


def _relies(facts: Known) -> Iterator[Sentence]:
    """Which observations its decisions rely on most."""
    shares = [f"{{{fact.fact_id}@name}} ({{{fact.fact_id}}})" for fact in under(facts, "relies.")[:MAX_NAMED]]
    if shares:
        yield Sentence(f"Its decisions rely most on {listed(shares)}.")


def _certainty(facts: Known) -> Iterator[Sentence]:
    margins = sorted(under(facts, "margin."), key=lambda fact: fact.value)
    if len(margins) > 1:
        least, most = margins[0].fact_id, margins[-1].fact_id
        measure = "log-probability" if ", log-probability" in margins[0].label else "value"
        yield Sentence(
            f"Its choices are clearest with {{{most}@name}} (the best action leads the next by {{{most}}} in "
            f"{measure}), closest with {{{least}@name}} ({{{least}}})."
        )


def _disagreements(facts: Known) -> Iterator[Sentence]:
    """Where it decides otherwise than the rules."""
    for key in [key for key in facts if key.startswith("differs.") and key.count(".") == 1]:
        text = f"In {{{key}}} of its decisions {{{key}@name}} would do otherwise"
        larger, smaller = f"{key}.larger", f"{key}.smaller"
        if larger in facts and smaller in facts:
            text += f" ({{{larger}@name}} in {{{larger}}}, {{{smaller}@name}} in {{{smaller}}})"
        if f"{key}.switch" in facts:
            text += f", most often {{{key}.switch@name}} ({{{key}.switch}} of all)"
        yield Sentence(text + ".")


def _training(facts: Known) -> Iterator[Sentence]:
    if "training.rows" in facts:
        yield Sentence("It learned from {training.rows} that were new to it; its lineage names them.")


def _volume(facts: Known) -> Iterator[Sentence]:
    """What came in."""
    if "rows.total" not in facts:
        return
    text = "{rows.total} came in"
    if "agents.total" in facts:
        text += " from {agents.total}"
    if "rows.change" in facts:
        text += ", {rows.change} against the interval before"
    if "episodes.ended" in facts:
        text += "; {episodes.ended} ended"
    yield Sentence(text + ".")


def _reward(facts: Known) -> Iterator[Sentence]:
    """The level behind the headline, and the terms that moved."""
    if "reward.mean" in facts and _is_change(facts, "reward.change"):
        yield Sentence("The mean reward was {reward.mean}.")
    forms: Forms = {
        # "Part" each time: latency that rose would be read as milliseconds, of which less is better.
        "up": ("", "the {FACT@name} part rose by {FACT@size}"),
        "down": ("", "the {FACT@name} part fell by {FACT@size}"),
        "flat": ("no change is shown in", "the {FACT@name} part"),
    }
    yield from _contrast(facts, "term.", ".change", forms, "Of the parts of the reward,", joint="; ")


def _served(facts: Known) -> Iterator[Sentence]:
    """Which versions were at work."""
    shares = [key for key in facts if key.startswith("version.") and key.endswith(".share")]
    if shares:
        items = [f"{{{share}@name}} ({{{share}}})" for share in shares[:MAX_NAMED]]
        yield Sentence(f"The agents' steps were taken by {listed(items)}.")


def _earned(facts: Known) -> Iterator[Sentence]:
    """What agents earned by each version, and the action whose share is another most of all."""
    levels = [key for key in facts if key.startswith("observed.")]
    if levels:
        each = "an episode" if facts[levels[0]].unit == "return" else "a step"
        items = [f"{{{key}}} by {{{key}@name}}" for key in levels]
        yield Sentence(f"In a sample of the rows agents earned {listed(items)}, {each}.")
    if "earned.change" in facts:
        words: dict[Direction, str] = {
            "up": "Agents earned more by {earned.change@name} than by the version before: {earned.change}.",
            "down": "Agents earned less by {earned.change@name} than by the version before: {earned.change}.",
            "flat": "It is not shown that agents earned otherwise by {earned.change@name}: {earned.change}.",
        }
        yield by_direction(facts, "earned.change", words)
    shares = [key for key in facts if key.startswith("shift.")]
    if len(shares) > 1:
        items = [f"{{{key}@value}} of actions" for key in shares]
        yield Sentence(
            f"What they did most otherwise: they took \u201c{{{shares[0]}@name}}\u201d in {items[0]} under the earlier "
            f"of these versions and in {items[1]} under the later."
        )


def _taken(facts: Known) -> Iterator[Sentence]:
    """The mean of continuous actions."""
    means = [key for key in facts if key.startswith("taken.")]
    if means:
        items = [f"{{{key}@name}} was {{{key}}}" for key in means[:MAX_NAMED]]
        yield Sentence(f"In a sample of the rows {listed(items)} on average.")


def _proposed(facts: Known) -> Iterator[Sentence]:
    """That an advisor proposes what nobody has decided on."""
    if "directives.proposed" in facts:
        yield Sentence("The advisor proposed {directives.proposed}; a person has yet to decide.")


def _exploration(facts: Known) -> Iterator[Sentence]:
    """That what agents did is not all the policy's choice, lest a change in reward be taken for its merit."""
    if "reward.mean" not in facts:
        return
    text = "Actions include the agents' own exploration, so the reward is not the policy's merit or fault alone"
    changed = facts.get("versions.changed")
    if changed is not None and changed.value == 0:
        text += "; the policy versions at work are the same as in the interval before"
    elif changed is not None:
        text += "; the policy versions at work are not the same as in the interval before"
    yield Sentence(text + ".")


JUDGED: dict[str, str] = {
    "untested": "No gate has tested it: the settings let each version serve.",
    "person": "A person let it serve.",
    "overruled": "A person let it serve, though the gate had refused it.",
    "canary": "A part of the agents tried it before it came to serve all.",
    "close": "The gate let it serve as close enough to the best version: its algorithm learns from what serves.",
    "data": "No simulator has tested it: the gate estimated from recorded rows what it would earn.",
}
VERSION_PARTS: tuple[Part, ...] = (
    version_outcomes,
    _baselines,
    _judged,
    _terms,
    _drawn,
    _behaviour,
    _relies,
    _limits,
    _disagreements,
    _certainty,
    _training,
)
INTERVAL_PARTS: tuple[Part, ...] = (
    interval_outcomes,
    _reward,
    _volume,
    _served,
    _earned,
    _taken,
    _limits,
    _refused,
    _proposed,
    _exploration,
    *OPERATIONS_PARTS,
)
PARTS: dict[str, tuple[Part, ...]] = {
    "version": VERSION_PARTS,
    "decision": DECISION_PARTS,
    "interval": INTERVAL_PARTS,
    "merit": (version_outcomes, level, _baselines, _judged, _terms, _drawn),
    "verdict": (_judged, compared),
    "change": (compared, _terms, _disagreements, _limits, _training),
    "behaviour": (_behaviour, _limits, _certainty, _drawn),
    "importance": (_relies,),
    "serving": (serving,),
    "activity": (actions, interval_outcomes, _reward, _volume, _served, _taken, _exploration),
    "health": (rules,),
}


ADAPTER: Final = Adapter(lambda *_: TemplateNarrator())
