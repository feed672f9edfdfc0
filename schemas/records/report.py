"""Reports, what they are made of, and what people think of them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from headrace.schemas.records.task import Id

Direction = Literal["up", "down", "flat"]


class Fact(Struct, frozen=True, omit_defaults=True):
    """One computed number that a report may state.

    label: "name, detail" (grounding's `@name` is the part before the comma). unit: "" (a plain number),
    "return", "%", "rows", ... low, high: a 95 % interval. direction: what the number says of a change (from
    its sign, "flat" when the interval holds 0), None where it is a level, not a change. better: of an outcome,
    which way is good.
    """

    fact_id: Id
    label: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    direction: Direction | None = None
    better: Literal["lower", "higher"] | None = None


class Facts(Struct, frozen=True):
    """Everything that one report may speak of."""

    task: str
    subject: str
    facts: tuple[Fact, ...]


class Sentence(Struct, frozen=True, omit_defaults=True):
    """A sentence whose numbers are `{fact_id}` placeholders; claims: the direction it asserts of a fact."""

    text: str
    claims: dict[str, Direction] = {}


class Narrative(Struct, frozen=True):
    """What a narrator said of some facts. headline: a Sentence too."""

    narrator: str
    headline: Sentence
    sentences: tuple[Sentence, ...]


class Series(Struct, frozen=True, omit_defaults=True):
    """A line of a plot: x and y of equal length.

    labels: names of the places on the x axis, where it has names. low, high: 95 % intervals of y, if known.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    labels: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


class Report(Struct, frozen=True):
    """A report as data; Markdown, HTML and plots are rendered from it.

    kind: "version" (a promoted version) or "interval" (a reporting interval). series: plots' lines, by plot.
    """

    report_id: Id
    task: str
    kind: Literal["version", "interval"]
    start_ms: int
    end_ms: int
    policy_version: int | None
    facts: Facts
    narrative: Narrative
    series: dict[str, list[Series]]
    schema_version: Literal[1] = 1


class Rating(Struct, frozen=True):
    """What a person thinks of a report: thumbs, and no words. narrator: who wrote the report's sentences.

    Of a person's ratings of one report the last is what holds.
    """

    report_id: Id
    task: str
    narrator: Annotated[str, Meta(max_length=200)]
    rating: Literal["up", "down"]
    who: Id
    ts: int
    schema_version: Literal[1] = 1
