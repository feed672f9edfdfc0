"""The digest e-mail, composed from reports. Pure: the same reports and envelope give the same bytes.

text/plain comes first; beside it HTML with its style inlined, and its plots by Content-ID. The whole stays
under 100 KB (Gmail cuts what is longer): plots are drawn smaller, then the least important are left out, and
the mail says so.
"""

import hashlib
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr

from headrace.learners.explain.template import TemplateNarrator
from headrace.pipelines.report import plots, render
from headrace.schemas.grounding import fill
from headrace.schemas.records import Report

LIMIT_BYTES = 100_000
MAX_WHOLE = 6
"""Reports that are told whole; of others only the verdict."""
MAX_SUBJECT = 180
SHARPNESS_DPI = (120, 90)
TEXT_WIDTH = 76
JOINTLY = "Better, worse: by Holm's correction; intervals: 95 % each."
"""The footer's one line on simultaneous claims."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where a digest goes. unsubscribe: a mailto: or https: URL. link: of a report's page, with {report_id}."""

    sender: str
    recipients: tuple[str, ...]
    unsubscribe: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A report as the templates need it."""

    title: str
    direction: str
    context: str
    sentences: list[str]
    images: list[render.Image]
    link: str


Draw = Callable[[Report, str, int], render.Image]
"""Gives a report's plot by its name and its sharpness."""


def compose(reports: Sequence[Report], digest_id: str, date_ms: int, envelope: Envelope) -> EmailMessage:
    """Make the mail of at least one report. digest_id: its identity across retries. date_ms: its Date."""
    assert reports, "a digest tells of at least one report"
    ordered = ranked(reports)
    drawn: dict[tuple[str, str, int], render.Image] = {}

    def draw(report: Report, name: str, dpi: int) -> render.Image:
        key = (report.report_id, name, dpi)
        if key not in drawn:  # else for a larger plan
            drawn[key] = render.image(report, name, dpi=dpi)
        return drawn[key]

    for plan in _plans(ordered):
        message = _message(ordered, plan, draw, digest_id, date_ms, envelope)
        if len(message.as_bytes()) < LIMIT_BYTES:
            break
    return message


def ranked(reports: Sequence[Report]) -> list[Report]:
    """Order reports by what a manager must see first.

    What serves now comes first (each task's newest version), then the versions before it, newest first, then the
    intervals, what went wrong first.
    """
    order = {"down": 0, "up": 1, "flat": 2}
    newest: dict[str, int] = {}
    for report in reports:
        newest[report.task] = max(newest.get(report.task, 0), report.policy_version or 0)

    def rank(report: Report) -> tuple[bool, bool, int, int, int, str]:
        version = report.kind == "version"
        superseded = not version or report.policy_version != newest[report.task]
        age = -(report.policy_version or 0) if superseded else 0
        return (superseded, not version, age, order[direction(report)], -report.end_ms, report.report_id)

    return sorted(reports, key=rank)


def direction(report: Report) -> str:
    """Return where the report's verdict points: up, down or flat."""
    claims = TemplateNarrator().tell(report.facts).headline.claims
    return next(iter(claims.values()), "flat")


def subject(ordered: Sequence[Report]) -> str:
    """Return verdict and change of the first report. The facts alone decide it, whoever narrated."""
    first = ordered[0]
    verdict = fill(TemplateNarrator().tell(first.facts).headline, first.facts)
    more = len(ordered) - 1
    ending = f", and {more} more report{'s' if more > 1 else ''}" if more else ""
    # A header is one line, whatever a label holds.
    return " ".join(f"{first.task}: {verdict}".split())[:MAX_SUBJECT] + ending


Picture = tuple[str, str]
"""Report and plot."""
Plan = tuple[int, int, list[Picture]]
"""How many reports are told whole, the plots' sharpness in dots per inch, and which plots."""


def _plans(ordered: Sequence[Report]) -> Iterator[Plan]:
    """Ever smaller ones; the last has no plots and one report."""
    whole = min(len(ordered), MAX_WHOLE)
    pictures = _pictures(ordered[:whole])
    for dpi in SHARPNESS_DPI:
        yield whole, dpi, pictures
    for count in range(len(pictures) - 1, 0, -1):
        yield whole, SHARPNESS_DPI[-1], pictures[:count]
    for fewer in range(whole, 0, -1):
        yield fewer, SHARPNESS_DPI[-1], []


def _pictures(reports: Sequence[Report]) -> list[Picture]:
    """Return all plots of the first report and the best one of each other, the most important first."""
    found = []
    for place, report in enumerate(reports):
        names = render.plot_names(report)
        found += [(rank, place, name) for rank, name in enumerate(names if place == 0 else names[:1])]
    return [(reports[place].report_id, name) for _, place, name in sorted(found)]


def _message(
    ordered: Sequence[Report],
    plan: Plan,
    draw: Draw,
    digest_id: str,
    date_ms: int,
    envelope: Envelope,
) -> EmailMessage:
    whole, dpi, pictures = plan
    entries = [_entry(report, dpi, pictures, draw, envelope) for report in ordered[:whole]]
    others = [f"{report.task}: {render.title(report)}" for report in ordered[whole : whole + 40]]
    notes = _notes(ordered, whole, pictures)
    message = EmailMessage(policy=SMTP)
    message["Subject"] = subject(ordered)
    message["From"] = envelope.sender
    message["To"] = ", ".join(envelope.recipients)
    message["Date"] = format_datetime(datetime.fromtimestamp(date_ms // 1000, UTC))
    message["Message-ID"] = f"<{digest_id}@{parseaddr(envelope.sender)[1].rpartition('@')[2] or 'headrace'}>"
    message["List-Unsubscribe"] = f"<{envelope.unsubscribe}>"
    if envelope.unsubscribe.startswith("https:"):
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_text(entries, others, notes), cte="quoted-printable")
    message.add_alternative(_html(message["Subject"], entries, others, notes), subtype="html", cte="quoted-printable")
    _attach(message, entries)
    _fix_boundaries(message, digest_id)
    return message


def _entry(report: Report, dpi: int, pictures: list[Picture], draw: Draw, envelope: Envelope) -> Entry:
    images = [draw(report, name, dpi) for report_id, name in pictures if report_id == report.report_id]
    return Entry(
        render.title(report),
        direction(report),
        render.context(report),
        render.sentences(report),
        images,
        envelope.link.replace("{report_id}", report.report_id),
    )


def _notes(ordered: Sequence[Report], whole: int, pictures: list[Picture]) -> list[str]:
    """What the mail leaves out, and where its numbers come from."""
    notes = []
    available = sum(name in plots.PLOTS for report in ordered for name in report.series)
    dropped, untold = available - len(pictures), len(ordered) - whole
    if dropped:
        noun = "plot" if dropped == 1 else "plots"
        notes.append(f"{dropped} {noun} left out to keep this mail small: headrace report show REPORT has all.")
    if untold > 40:
        notes.append(f"{untold - 40} more reports are not listed: headrace report list has all.")
    narrators = sorted({report.narrative.narrator for report in ordered[:whole]})
    if any(fact.fact_id == "comparisons.count" for report in ordered[:whole] for fact in report.facts.facts):
        notes.append(JOINTLY)
    notes.append(
        "Numbers are computed; the words "
        f"({', '.join(narrators)}) were checked against them. Reports: "
        + ", ".join(report.report_id for report in ordered[:whole])
        + "."
    )
    return notes


def _text(entries: list[Entry], others: list[str], notes: list[str]) -> str:
    """Write the plain alternative, for readers who see no HTML and for their machines."""
    blocks = []
    for entry in entries:
        title = textwrap.fill(entry.title, TEXT_WIDTH)
        rule = "=" * min(max(map(len, title.splitlines())), TEXT_WIDTH)
        paragraphs = [textwrap.fill(sentence, TEXT_WIDTH) for sentence in entry.sentences]
        blocks.append("\n\n".join([f"{title}\n{rule}\n{entry.context}", *paragraphs, *filter(None, [entry.link])]))
    if others:
        listed = [textwrap.fill(line, TEXT_WIDTH, initial_indent="- ", subsequent_indent="  ") for line in others]
        blocks.append("\n".join(["Also reported", *listed]))
    blocks.append("\n".join(textwrap.fill(note, TEXT_WIDTH) for note in notes))
    return "\n\n\n".join(blocks) + "\n"


def _html(title: str, entries: list[Entry], others: list[str], notes: list[str]) -> str:
    import css_inline  # noqa: PLC0415 only who sends needs it

    style = (render.TEMPLATES / "digest.css").read_text(encoding="utf-8")
    page = render.template("digest.html.j2").render(
        subject=title, entries=entries, others=others, notes=notes, style=style
    )
    inliner = css_inline.CSSInliner(keep_style_tags=False, load_remote_stylesheets=False)
    return str(inliner.inline(page))


def _attach(message: EmailMessage, entries: list[Entry]) -> None:
    """Put the images beside the HTML, as multipart/related."""
    body = message.get_body(("html",))
    assert isinstance(body, EmailMessage)
    for entry in entries:
        for image in entry.images:
            body.add_related(
                image.data,
                "image",
                "png",
                cid=f"<{image.cid}>",
                disposition="inline",
                filename=f"{image.cid.split('@')[0]}.png",
            )


def _fix_boundaries(message: EmailMessage, digest_id: str) -> None:
    """Python draws boundaries at random; these are part of the same bytes each time."""
    seed = hashlib.sha256(digest_id.encode()).hexdigest()[:24]
    for place, part in enumerate(message.walk()):
        if part.is_multipart():
            part.set_boundary(f"=_{seed}_{place}")
        if part is not message:
            del part["MIME-Version"]
