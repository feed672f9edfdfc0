"""A report as JSON, Markdown and HTML. Pure: the same report gives the same bytes.

HTML is one self-contained page, readable on a phone and on paper; everything in it is escaped.
"""

import base64
import hashlib
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from headrace.learners.explain.interval import moment_text, span
from headrace.learners.explain.template import TemplateNarrator
from headrace.learners.explain.template_operations import on_operations
from headrace.learners.explain.template_outcomes import OUTCOME, levels, on_outcome, outcome_rivals, rival_name
from headrace.pipelines.report import plots
from headrace.pipelines.report.wording import explained
from headrace.schemas.grounding import fill, format_fact, format_interval
from headrace.schemas.records import Direction, Fact, Report, Sentence

PAGE_DPI = 200
TEXT_WIDTH = 76
GROUPS: dict[str, str] = {
    "outcome": "Outcomes",
    "return": "Return",
    "term": "Parts of the reward",
    "reward": "Reward",
    "judged": "How it came to serve",
    "gate": "How it came to serve",
    "observed": "What agents earned",
    "situation": "Situations",
    "situations": "Situations",
    "action": "Actions",
    "actions": "Actions",
    "differs": "Against the rules",
    "earned": "What agents earned",
    "shift": "Actions by version",
    "taken": "Actions",
    "saturation": "Bounds of the action",
    "smoothness": "Smoothness",
    "apart": "Against the version before",
    "margin": "How clear its choices are",
    "version": "Versions",
    "training": "Learning",
    "refusals": "Learning",
    "weights": "Learning",
    "rows": "Data",
    "agents": "Data",
    "episodes": "Data",
    "rejected": "Rejected messages",
    "directives": "Learning",
    "operations": "How the jobs ran",
}
"""Headings of the table of facts, by the first part of a fact's id."""


@dataclass(frozen=True, slots=True)
class Image:
    """A plot with the words around it: within a page by its URI, beside a mail's HTML by its Content-ID."""

    report_id: str
    name: str
    title: str
    caption: str
    alternative: str
    data: bytes

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.data).decode()

    @property
    def cid(self) -> str:
        """The image's Content-ID."""
        return f"{hashlib.sha256(self.report_id.encode()).hexdigest()[:12]}.{self.name}@headrace"


def to_json(report: Report) -> bytes:
    """Write the report as data."""
    return msgspec.json.encode(report)


def to_markdown(report: Report) -> str:
    """Write verdict, sentences and facts as Markdown; plots stay with the page."""
    return rendered("report.md.j2", report=report)


def to_html(report: Report) -> str:
    """Write the report as one page, plots inside."""
    return rendered("report.html.j2", report=report, images=images(report, dpi=PAGE_DPI))


def title(report: Report) -> str:
    """Return the verdict."""
    return _begun(fill(report.narrative.headline, report.facts, typographic=True))


def direction(report: Report) -> Direction:
    """Return where the verdict points. The facts alone decide it, whoever narrated."""
    claims = TemplateNarrator().tell(report.facts).headline.claims
    return next(iter(claims.values()), "flat")


def sentences(report: Report, *, operations: bool = True, outcomes: bool = True) -> list[str]:
    """Return the narrative with its numbers; operations: with what it tells of how the jobs ran.

    outcomes: with each outcome itself, in a sentence of its own.
    """
    told = [one for one in report.narrative.sentences if operations or not on_operations(one)]
    told = [one for one in told if outcomes or not on_outcome(one)]
    return [_begun(fill(sentence, report.facts, typographic=True)) for sentence in told]


def paragraphs(report: Report) -> list[str]:
    """Return the narrative for a page that has a table of outcomes, with the field's words explained."""
    return explained(title(report), sentences(report, outcomes=not outcome_table(report)))


def explained_sentences(report: Report) -> list[str]:
    """Return the whole narrative, with the field's words explained."""
    return explained(title(report), sentences(report))


def outcome_table(report: Report) -> list[list[str]]:
    """Return the outcomes as a table, its head first, beside those of whom they are compared with; [] for none."""
    facts = {fact.fact_id: fact for fact in report.facts.facts}
    rivals = outcome_rivals(facts)
    ends = [*rivals, *(["change"] if report.kind == "interval" else [])]
    ends = [one for one in ends if any(f"{fact.fact_id}.{one}" in facts for fact in levels(facts))]
    names = {one: fill(Sentence(rival_name(one, facts)), report.facts, typographic=True) for one in rivals}
    own = report.facts.subject if report.kind == "version" else "All agents"
    head = ["", own, *(_begun(names.get(one, "Against the interval before")) for one in ends)]
    rows = [
        [
            _begun(format_fact(fact, "name", typographic=True)),
            *(_cell(facts, key) for key in (fact.fact_id, *(f"{fact.fact_id}.{one}" for one in ends))),
        ]
        for fact in levels(facts)
    ]
    return [head, *rows] if rows else []


def _cell(facts: dict[str, Fact], fact_id: str) -> str:
    return format_fact(facts[fact_id], "value", typographic=True) if fact_id in facts else ""


def _begun(text: str) -> str:
    """Begin with a capital where a word is first: "v7" and "p95" are names."""
    return text[:1].upper() + text[1:] if re.match(r"[a-z]+\b", text) else text


def context(report: Report) -> str:
    """Say in one line what the report is about."""
    if report.kind == "version":
        return f"{report.task}: {report.facts.subject}, serving since {moment_text(report.end_ms, ',', '%H:%M')}"
    return f"{report.task}: {span(report.start_ms, report.end_ms)}"


def footer(report: Report) -> str:
    """Say where the words and the numbers come from, and how far they can be trusted."""
    basis = (
        f"Report {report.report_id}. Numbers are computed; the words ({report.narrative.narrator}) were checked "
        "against them before publication. Each interval is a 95 % confidence interval for itself alone: of twenty, "
        "one misses the true value on average."
    )
    return " ".join([basis, *_cautions(report)])


def _cautions(report: Report) -> Iterator[str]:
    """What a reader of the intervals must know beside them."""
    facts = {fact.fact_id: fact for fact in report.facts.facts}
    if "comparisons.count" in facts:
        yield (
            "Who compares much finds differences by chance. So the words say that something is better, worse, rose or "
            f"fell only where Holm's correction for all of this report's {format_fact(facts['comparisons.count'])} "
            "bears it out (5 % for all of them together); the intervals shown are not widened for that."
        )
    if "traces.count" in facts:
        yield (
            "This report's traces are the same for every version, and others than those by which the gate chose what "
            "it let through."
        )
    elif "judged.data" in facts:
        yield (
            "The returns are the gate's estimates from recorded rows: discounted, and as good as the model behind them."
        )
    elif any(key.startswith("return.") for key in facts):
        yield "The returns are the gate's own, by which it chose what it let through: that flatters them."
    if any(key.startswith("observed.") for key in facts):
        yield (
            "What agents earned depends on what they met meanwhile: it is no test of a version against another that "
            "acted at another time."
        )
    if report.kind == "interval" and any(key.startswith("term.") for key in facts):
        yield "More is better in every part of the reward."


Row = tuple[str, str, str]
"""Of the table of facts: label, value, interval."""


def grouped(report: Report) -> dict[str, list[Row]]:
    """Return the facts by heading: outcomes, then the others in the order in which their headings first occur."""
    found: dict[str, list[Row]] = {}
    for fact in sorted(report.facts.facts, key=lambda fact: not fact.fact_id.startswith(OUTCOME)):
        heading = GROUPS.get(fact.fact_id.split(".", 1)[0], "Basis")
        found.setdefault(heading, []).append(_row(fact))
    return found


def _row(fact: Fact) -> Row:
    label, value = (format_fact(fact, part, typographic=True) for part in ("label", "value"))
    return _begun(label), value, format_interval(fact)


def plot_names(report: Report) -> list[str]:
    """Return the plots that the report has, the most important first; series of unknown ones are passed over."""
    return [name for name in plots.PLOTS if report.series.get(name)]


def images(report: Report, *, dpi: int) -> list[Image]:
    """Draw the report's plots."""
    return [image(report, name, dpi=dpi) for name in plot_names(report)]


def image(report: Report, name: str, *, dpi: int) -> Image:
    """Draw one of the report's plots."""
    plot, series = plots.PLOTS[name], report.series[name]
    data, alternative = plots.png(name, series, dpi=dpi), plots.alternative(name, series)
    return Image(report.report_id, name, plot.title, plot.caption, alternative, data)


def rendered(name: str, **values: Any) -> str:  # noqa: ANN401 what the template needs
    """Fill a template of this package: HTML's escape everything, and what is undefined fails."""
    return _environment().get_template(name).render(**values)


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"escaped": _escaped, "wrapped": lambda text, **indents: textwrap.fill(text, TEXT_WIDTH, **indents)}
    told = (title, direction, context, sentences, paragraphs, explained_sentences, outcome_table, grouped, footer)
    made.globals |= {one.__name__: one for one in told}
    return made


def _escaped(text: str) -> str:
    """Keep Markdown from reading names as markup."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)
