"""Grounding: what a narrative may say, and how facts are written."""

import itertools
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.learners.explain.template import BARE, TemplateNarrator
from headrace.schemas.errors import UngroundedReportError
from headrace.schemas.grounding import check, direction_of, fill, format_fact, problems
from headrace.schemas.records import Direction, Fact, Facts, Narrative, Sentence

FACTS = Facts(
    "cloud",
    "v7",
    (
        Fact("version.policy", "this version", 7, "version"),
        Fact("return.vs-serving", "the version before, difference in return", 2.13, "return", 1.42, 2.84, "up"),
        Fact("return.vs-hpa", "the HPA, difference in return", -0.4, "return", -1.0, 0.2, "flat"),
        Fact("term.cost", "cost, part of the difference", -1.5, "return", -2.0, -1.0, "down"),
        Fact("rows.change", "rows, against before", 12.0, "%", direction="up"),
        Fact("rows.total", "transitions", 12_345, "rows"),
    ),
)


def said(text: str, **claims: Direction) -> list[str]:
    """Problems of a headline; claims name facts with _ for their punctuation."""
    known = {fact.fact_id.replace(".", "_").replace("-", "_"): fact.fact_id for fact in FACTS.facts}
    sentence = Sentence(text, {known.get(key, key): direction for key, direction in claims.items()})
    return problems(Narrative("test", sentence, ()), FACTS)


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("{version.policy} is better by {return.vs-serving}.", {"return_vs_serving": "up"}),
        ("Return is not shown to differ: {return.vs-hpa}", {"return_vs_hpa": "flat"}),
        ("It did not improve: {return.vs-hpa}", {"return_vs_hpa": "flat"}),
        ("Return rose by {return.vs-serving@size}, while cost fell by {term.cost@size}.", None),
        ("{rows.total} came in, {rows.change} against the interval before", {}),
        ("On {@task}, {@subject} is told of", {}),
        ("It isn\u2019t worse than the HPA ({return.vs-hpa})", {"return_vs_hpa": "flat"}),
        ("The return rose; it is {return.vs-serving}", {"return_vs_serving": "up"}),
    ],
)
def test_what_the_facts_bear_out_is_let_through(text: str, claims: dict[str, Direction] | None) -> None:
    if claims is None:
        claims = {"return_vs_serving": "up", "term_cost": "down"}
    assert said(text, **claims) == []


@pytest.mark.parametrize(
    ("text", "claims", "part"),
    [
        ("It is better by 2 return", {}, "'2'"),
        ("It is better by \uff12", {}, "outside placeholders"),
        ("It gained ½", {}, "outside placeholders"),
        ("It serves twice as many users", {}, "twice"),
        ("Twenty-one agents", {}, "twenty"),
        ("Half of the rows", {}, "half"),
        ("tw\u200bice", {}, "outside placeholders"),
        ("Обратно", {}, "outside placeholders"),
        ("<b>{rows.total}</b>", {}, "outside placeholders"),
        ("see evil.example", {}, "link"),
        ("{rows.nothing}", {}, "names no fact"),
        ("{rows total}", {}, "outside placeholders"),
        ("line\nbreak", {}, "outside placeholders"),
        ("Return rose by {return.vs-serving}", {}, '"rose"'),
        ("Return fell by {return.vs-serving}", {"return_vs_serving": "up"}, '"fell"'),
        ("Return fell by {return.vs-serving}", {"return_vs_serving": "down"}, "which is up"),
        ("Return did not rise: {return.vs-serving}", {"return_vs_serving": "up"}, '"rise"'),
        ("Better than the HPA by {return.vs-hpa}", {"return_vs_hpa": "up"}, "which is flat"),
        ("Rows are better by {rows.change}", {"rows_change": "up"}, '"better"'),
        ("There were {rows.total}", {"rows_total": "up"}, "a level, not a change"),
        ("Nothing to see", {"return_vs_serving": "up"}, "without showing it"),
        ("Nothing to see", {"missing": "up"}, "no fact"),
        (
            "Return fell ({return.vs-serving}) and cost rose ({term.cost})",
            {"return_vs_serving": "up", "term_cost": "down"},
            '"fell"',
        ),
        ("x" * 601, {}, "at most 600"),
    ],
)
def test_what_they_do_not_bear_out_is_named(text: str, claims: dict[str, Direction], part: str) -> None:
    assert any(part in problem for problem in said(text, **claims)), said(text, **claims)


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("It is not shown to differ: {a}", True),
        ("No change is shown: {a}", True),
        ("It isn't worse: {a}", True),
        ("It isn't better: {a}", False),
        ("It is unchanged: {a}", False),
        ("It is better by {a}", False),
    ],
)
def test_flat_against_its_own_interval_is_only_not_shown_to_differ(text: str, *, fine: bool) -> None:
    facts = Facts("t", "s", (Fact("a", "a", 1.0, "return", 0.1, 1.9, "flat"),))
    assert (problems(Narrative("n", Sentence(text, {"a": "flat"}), ()), facts) == []) is fine


def test_flat_without_an_interval_must_be_nothing() -> None:
    facts = Facts("t", "s", (Fact("a", "a", 1.0, "return", direction="flat"),))
    assert problems(Narrative("n", Sentence("Hello"), ()), facts) == [
        "fact a is called flat, which its numbers are not"
    ]


def test_the_error_lists_every_problem() -> None:
    narrative = Narrative("model", Sentence("It rose by 3 percent"), (Sentence("{missing}"),))
    with pytest.raises(UngroundedReportError) as error:
        check(narrative, FACTS)
    for part in ("'3'", "percent", '"rose"', "sentence 1: {missing}"):
        assert part in str(error.value)


def test_facts_that_contradict_themselves_are_named() -> None:
    facts = Facts(
        "t",
        "s",
        (Fact("a", "a", 1.0, "", -1.0, 3.0, "up"), Fact("a", "a", 1.0), Fact("b", "b", float("nan"))),
    )
    found = " ".join(problems(Narrative("n", Sentence("Hello"), ()), facts))
    assert "called up" in found
    assert "twice" in found
    assert "not finite" in found


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        (Fact("a", "a", 2.13, "return", 1.42, 2.84, "up"), "+2.1 return (95 % +1.4 to +2.8)"),
        (Fact("a", "a", -0.4, "return", -1.0, 0.2, "flat"), "-0.4 return (95 % -1.0 to +0.2)"),
        (Fact("a", "a", 84.913, "return", 82.2, 87.5), "84.9 return (95 % 82.2 to 87.5)"),
        (Fact("a", "a", 0.74, "return", 0.04, 1.44, "up"), "+0.74 return (95 % +0.04 to +1.44)"),
        (Fact("a", "a", 12_345, "rows"), "12,345 rows"),
        (Fact("a", "a", 1, "rows"), "1 row"),
        (Fact("a", "a", 7, "version"), "v7"),
        (Fact("a", "a", 1_234, "version"), "v1234"),
        (Fact("a", "a", 12.34, "%"), "12 %"),
        (Fact("a", "a", 3.44, "%"), "3.4 %"),
        (Fact("a", "a", 0.01, "%"), "<0.1 %"),
        (Fact("a", "a", 0.0, "%", direction="flat"), "0 %"),
        (Fact("a", "a", 0.123456), "0.123"),
        (Fact("a", "a", 1e-9), "1.00e-09"),
    ],
)
def test_numbers_have_the_digits_that_their_interval_warrants(fact: Fact, text: str) -> None:
    assert format_fact(fact) == text


def test_fill_puts_names_and_numbers_in() -> None:
    sentence = Sentence("{version.policy} on {@task}: {return.vs-hpa@name} {return.vs-hpa@value}, {term.cost@size}")
    assert fill(sentence, FACTS) == "v7 on cloud: the HPA -0.4 return, 1.5 return"
    assert "\u22120.4" in fill(sentence, FACTS, typographic=True)
    with pytest.raises(UngroundedReportError):
        fill(Sentence("{missing}"), FACTS)


PARTS = [
    "return.vs-",
    "term.a.vs-",
    "term.b.vs-",
    "action.x.",
    "situation.",
    "margin.",
    "differs.",
    "rejected.",
    "version.",
]
ENDS = ["serving", "hpa", "rate_rule", "clairvoyant", "x", "y", "larger", "x.larger", "x.smaller", "share", "total"]
WHOLE = [
    "version.policy",
    "version.previous",
    "reward.mean",
    "reward.change",
    "term.a.change",
    "rows.total",
    "rows.late",
]
IDS = st.one_of(
    st.sampled_from(WHOLE),
    st.builds(str.__add__, st.sampled_from(PARTS), st.sampled_from(ENDS)),
    st.from_regex(r"\A[A-Za-z0-9._-]{1,64}\Z"),
)
NUMBERS = st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1.0, -1.0]) | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def any_fact(draw: st.DrawFn) -> Fact:
    value = draw(NUMBERS)
    low, high = (min(value, draw(NUMBERS)), max(value, draw(NUMBERS))) if draw(st.booleans()) else (None, None)
    direction = direction_of(value, low, high) if draw(st.booleans()) else None
    unit = draw(st.sampled_from(["", "return", "per step", "%", "rows", "version"]))
    return Fact(draw(IDS), draw(st.text(max_size=20)), value, unit, low, high, direction)


@settings(max_examples=300, deadline=None)
@given(st.lists(any_fact(), max_size=25, unique_by=lambda fact: fact.fact_id))
def test_the_template_is_grounded_in_any_facts(found: list[Fact]) -> None:
    facts = Facts("cloud", "v7", tuple(found))
    narrative = TemplateNarrator().tell(facts)
    assert problems(narrative, facts) == []
    for sentence in (narrative.headline, *narrative.sentences):
        fill(sentence, facts, typographic=True)


BOUNDS: dict[Direction, tuple[float, float, float]] = {
    "up": (1.0, 0.5, 1.5),
    "down": (-1.0, -1.5, -0.5),
    "flat": (0.1, -1.0, 1.2),
}


def changes(fact_id: str, *units: str) -> list[Fact | None]:
    """A change in every direction and unit; with a flat one that its interval alone would not call so; and none."""
    found = [
        Fact(fact_id, f"{fact_id[-9:]}, change", *bounds[:1], unit, *bounds[1:], direction)
        for unit in units
        for direction, bounds in BOUNDS.items()
    ]
    return [*found, Fact(fact_id, "cautious, change", 1.0, units[0], 0.5, 1.5, "flat"), None]


def levels(**values: float) -> list[Fact]:
    """Levels by id, with - for the point."""
    return [Fact(key.replace("_", "."), f"{key}, level", value, "messages") for key, value in values.items()]


def interval_cases() -> Iterator[tuple[Fact | None, ...]]:
    """Every direction and unit of the reward's change and of two parts', and what is told beside them."""
    always = levels(reward_mean=0.5, rows_total=100, agents_total=3, episodes_ended=2, version_5_share=100)
    quality = [
        (),
        levels(rejected_total=0),
        levels(rejected_total=1, rejected_a=1, rows_late=4),
        levels(rejected_total=3, rejected_a=1, rejected_b=2, rows_late=4, rows_duplicates=1, rows_unreported=2),
    ]
    units = ("per step", "return", "%", "")
    parts = itertools.product(
        changes("reward.change", *units), changes("term.a.change", *units), changes("term.b.change", *units)
    )
    others = itertools.cycle(itertools.product(changes("rows.change", "%"), quality))
    for found, (rows, wrong) in zip(parts, others, strict=False):
        yield (*always, *found, rows, *wrong)


def version_cases() -> Iterator[tuple[Fact | None, ...]]:
    """Every direction of the differences to whom a version is compared with, and of its parts."""
    always = [Fact("version.policy", "this version", 7, "version"), *levels(traces_count=128, training_rows=9)]
    shares = levels(situation_low=50, action_low_x=60, action_low_y=40, margin_low=1, margin_high=2, differs_hpa=3)
    previous = Fact("version.previous", "the version before", 5, "version")
    compared = itertools.product(
        changes("return.vs-serving", "return", "%"),
        changes("return.vs-rate_rule", "return", ""),
        changes("return.vs-clairvoyant", "return"),
        changes("term.a.vs-serving", "return", "per step"),
        changes("term.b.vs-rate_rule", "return"),
    )
    for place, found in enumerate(compared):
        yield (*always, *(shares if place % 2 else ()), previous if place % 3 else None, *found)


@pytest.mark.parametrize("cases", [interval_cases, version_cases])
def test_the_template_is_grounded_in_every_direction_and_unit(
    cases: Callable[[], Iterator[tuple[Fact | None, ...]]],
) -> None:
    narrator = TemplateNarrator()
    for case in cases():
        facts = Facts("cloud", "this", tuple(fact for fact in case if fact is not None))
        found = problems(narrator.tell(facts), facts)
        assert not found, (facts, found)


def test_the_bare_narrative_is_grounded_in_no_facts_at_all() -> None:
    assert problems(BARE, Facts("cloud", "v7", ())) == []
    assert fill(BARE.headline, Facts("cloud", "v7", ())) == "Report on v7"
