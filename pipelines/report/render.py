"""A report as JSON, Markdown and HTML. Pure: the same report gives the same bytes.

HTML is one self-contained page, readable on a phone and on paper; everything in it is escaped.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import jinja2
import msgspec

from headrace.learners.explain.interval import span
from headrace.pipelines.report import plots
from headrace.schemas.grounding import fill, format_fact, format_interval
from headrace.schemas.records import Fact, Report

TEMPLATES = Path(__file__).parent / "templates"
PAGE_DPI = 200

GROUPS: dict[str, str] = {
    "return": "Return",
    "term": "Parts of the reward",
    "reward": "Reward",
    "situation": "Situations",
    "action": "Actions",
    "differs": "Against the rules",
    "margin": "How clear its choices are",
    "version": "Versions",
    "training": "Learning",
    "rows": "Data",
    "agents": "Data",
    "episodes": "Data",
    "rejected": "Rejected messages",
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
    lines = [f"# {_escaped(title(report))}", "", _escaped(context(report)), ""]
    lines += [f"- {_escaped(sentence)}" for sentence in sentences(report)]
    for heading, facts in grouped(report):
        lines += ["", f"## {_escaped(heading)}", "", "| Fact | Value | 95 % interval |", "|---|---:|---:|"]
        lines += [f"| {' | '.join(map(_escaped, row))} |" for row in facts]
    lines += ["", f"*{_escaped(footer(report))}*", ""]
    return "\n".join(lines)


def to_html(report: Report) -> str:
    """Write the report as one page, plots inside."""
    return template("report.html.j2").render(
        report=report,
        title=title(report),
        context=context(report),
        sentences=sentences(report),
        images=images(report, dpi=PAGE_DPI),
        groups=list(grouped(report)),
        footer=footer(report),
        style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
    )


def title(report: Report) -> str:
    """Return the verdict."""
    return fill(report.narrative.headline, report.facts, typographic=True)


def sentences(report: Report) -> list[str]:
    """Return the narrative with its numbers."""
    return [fill(sentence, report.facts, typographic=True) for sentence in report.narrative.sentences]


def context(report: Report) -> str:
    """Say in one line what the report is about."""
    if report.kind == "version":
        moment = datetime.fromtimestamp(report.end_ms / 1000, UTC)
        return f"{report.task}: {report.facts.subject}, serving since {moment.day} {moment:%b %Y, %H:%M} UTC"
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
            "The words say that something is better, worse, rose or fell only where Holm's correction for all of this "
            f"report's {format_fact(facts['comparisons.count'])} bears it out (5 % for all of them together); the "
            "intervals shown are not widened for that."
        )
    if "traces.count" in facts:
        yield (
            "The gate judged one candidate after another on the same traces, which flatters what it let through; "
            "this report's traces are others, the same for every version."
        )
    elif any(key.startswith("return.") for key in facts):
        yield (
            "The returns are the gate's own: it judged one candidate after another on the same traces, which flatters "
            "what it let through."
        )
    if report.kind == "interval" and any(key.startswith("term.") for key in facts):
        yield "More is better in every part of the reward."


Row = tuple[str, str, str]
"""Of the table of facts: label, value, interval."""


def grouped(report: Report) -> Iterator[tuple[str, list[Row]]]:
    """Return the facts by heading, in the order in which headings first occur."""
    found: dict[str, list[Row]] = {}
    for fact in report.facts.facts:
        label, value = (format_fact(fact, part, typographic=True) for part in ("label", "value"))
        found.setdefault(_heading(fact), []).append((_capital(label), value, format_interval(fact)))
    yield from found.items()


def _heading(fact: Fact) -> str:
    return GROUPS.get(fact.fact_id.split(".", 1)[0], "Basis")


def _capital(text: str) -> str:
    # Only words are capitalised: "v7" and "p95" are names.
    return text[:1].upper() + text[1:] if re.match(r"[a-z]+\b", text) else text


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


def template(name: str) -> jinja2.Template:
    """Return a template of this package; it escapes everything and fails on what is undefined."""
    return _environment().get_template(name)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _escaped(text: str) -> str:
    """Keep Markdown from reading names as markup."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)
