"""The digest e-mail, composed from reports. Pure: the same reports and envelope give the same bytes.

Of each task it tells what serves now, how far it has come in the period, and what the agents did last; what people must
decide stands before all that.

text/plain comes first; beside it HTML with its style inlined, and its plots by Content-ID. The whole stays
under 100 KB (Gmail cuts what is longer): plots are drawn smaller, then the least important are left out, and
the mail says so.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from email.utils import format_datetime, parseaddr
from typing import Any

from headrace.learners.explain.template import TemplateNarrator
from headrace.learners.explain.template_operations import amiss, operations_told
from headrace.pipelines.report import plots, render
from headrace.pipelines.report.sections import Section, course, decisions, sections
from headrace.pipelines.report.wording import explained
from headrace.schemas.grounding import fill
from headrace.schemas.records import Report


class _Whole(UnstructuredHeader):
    """A header that stays as it is: Python folds a long link into encoded words, which no mail program follows."""

    def fold(self, *, policy: Policy) -> str:
        return f"List-Unsubscribe: {self}{policy.linesep}"


_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("list-unsubscribe", _Whole)  # type: ignore[arg-type]  # it adds the base
_POLICY = SMTP.clone(header_factory=_HEADERS)

LIMIT_BYTES = 100_000
MAX_WHOLE = 6
"""Tasks that are told whole; of others only the verdict."""
MAX_LISTED = 40
"""Tasks of which the verdict is listed."""
MAX_TOLD = 10
"""Sentences on what serves now, beside a table of outcomes; a report's first ones matter most."""
MAX_LATEST = 8
"""Sentences on what the agents did last."""
MAX_OPERATIONS = 8
"""Intervals of which it is told how the jobs ran."""
MAX_SUBJECT = 180
SHARPNESS_DPI = (120, 90)
JOINTLY = "Better, worse: allowing for all comparisons (Holm); intervals: 95 % each."
"""The footer's one line on simultaneous claims."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where a digest goes. unsubscribe: a mailto: or https: URL, complete. link: of a page, with {report_id}."""

    sender: str
    recipients: tuple[str, ...]
    unsubscribe: str
    link: str = ""


Drawn = dict[tuple[str, str, int], render.Image]
"""Plots by report, name and sharpness. They take most of the time that a mail takes."""


def compose(
    reports: Sequence[Report], digest_id: str, date_ms: int, envelope: Envelope, drawn: Drawn | None = None
) -> EmailMessage:
    """Make the mail of at least one report. digest_id: its identity across retries. date_ms: its Date.

    drawn: plots that are kept for the next mail of the same reports.
    """
    assert reports, "a digest tells of at least one report"
    ordered = sections(reports)
    by_id = {report.report_id: report for report in reports}

    kept: Drawn = {} if drawn is None else drawn

    def draw(report_id: str, name: str, dpi: int) -> render.Image:
        key = report_id, name, dpi
        if key not in kept:
            kept[key] = render.image(by_id[report_id], name, dpi=dpi)
        return kept[key]

    for whole, dpi, pictures in _plans(ordered):
        images = [draw(*picture, dpi) for picture in pictures]
        if sum(len(image.data) for image in images) * 4 // 3 >= LIMIT_BYTES:  # as Base64 has them
            continue
        message = _message(ordered, whole, images, digest_id, date_ms, envelope)
        if len(message.as_bytes()) < LIMIT_BYTES:
            break
    return message


def subject(ordered: Sequence[Section]) -> str:
    """Return verdict and change of the first task. The facts alone decide it, whoever narrated."""
    first = ordered[0]
    verdict = fill(TemplateNarrator().tell(first.lead.facts).headline, first.lead.facts)
    more = len(ordered) - 1
    ending = f", and {more} more task{'s' if more > 1 else ''}" if more else ""
    # A header is one line, whatever a label holds.
    return " ".join(f"{first.task}: {verdict}".split())[:MAX_SUBJECT] + ending


Picture = tuple[str, str]
"""Report and plot."""
Plan = tuple[int, int, list[Picture]]
"""How many tasks are told whole, the plots' sharpness in dots per inch, and which plots."""


def _plans(ordered: Sequence[Section]) -> Iterator[Plan]:
    """Ever smaller ones; the last has no plots and one task."""
    whole = min(len(ordered), MAX_WHOLE)
    pictures = _pictures(ordered[:whole])
    for dpi in SHARPNESS_DPI:
        yield whole, dpi, pictures
    for count in range(len(pictures) - 1, 0, -1):
        yield whole, SHARPNESS_DPI[-1], pictures[:count]
    for fewer in range(whole, 0, -1):
        yield fewer, SHARPNESS_DPI[-1], []


def _pictures(told: Sequence[Section]) -> list[Picture]:
    """Return all plots of the first task's leading report and the best one of each other, the most important first."""
    found = []
    for place, section in enumerate(told):
        names = render.plot_names(section.lead)
        found += [(rank, place, name) for rank, name in enumerate(names if place == 0 else names[:1])]
    return [(told[place].lead.report_id, name) for _, place, name in sorted(found)]


@dataclass(frozen=True, slots=True)
class Entry:
    """A task that is told whole. sentences: for HTML, which has a table of outcomes; lines: for text, with none."""

    lead: Report
    sentences: list[str]
    lines: list[str]
    course: str
    latest: Report | None
    latest_lines: list[str]
    images: list[render.Image]
    link: str
    latest_link: str


def _message(
    ordered: Sequence[Section], whole: int, images: list[render.Image], digest_id: str, date_ms: int, envelope: Envelope
) -> EmailMessage:
    message = EmailMessage(policy=_POLICY)
    message["Subject"] = subject(ordered)
    message["From"] = envelope.sender
    message["To"] = ", ".join(envelope.recipients)
    message["Date"] = format_datetime(datetime.fromtimestamp(date_ms // 1000, UTC))
    message["Message-ID"] = f"<{digest_id}@{parseaddr(envelope.sender)[1].rpartition('@')[2] or 'headrace'}>"
    message["List-Unsubscribe"] = f"<{envelope.unsubscribe}>"
    if envelope.unsubscribe.startswith("https:"):
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message["Auto-Submitted"] = "auto-generated"
    _add_body(message, ordered, whole, images, envelope)
    _fix_boundaries(message, digest_id)
    return message


def _entries(told: Sequence[Section], images: list[render.Image], link: str) -> Iterator[Entry]:
    """Yield what is told of each task; a word of the field is explained where the mail first has it."""
    in_html, in_text = set[str](), set[str]()
    for section in told:
        lead, latest = section.lead, section.latest
        verdict, table = render.title(lead), render.outcome_table(lead)
        shown = render.sentences(lead, operations=False, outcomes=not table)[:MAX_TOLD]
        listed = render.sentences(lead, operations=False)[: MAX_TOLD + len(table[1:])]
        yield Entry(
            lead,
            explained(verdict, shown, in_html),
            explained(verdict, listed, in_text),
            course(section),
            latest,
            render.sentences(latest, operations=False)[:MAX_LATEST] if latest else [],
            [image for image in images if image.report_id == lead.report_id],
            _link(link, lead),
            _link(link, latest) if latest else "",
        )


def _link(link: str, report: Report) -> str:
    return link.replace("{report_id}", report.report_id)


def _add_body(
    message: EmailMessage, ordered: Sequence[Section], whole: int, images: list[render.Image], envelope: Envelope
) -> None:
    """Add the text, for readers who see no HTML and for their machines, and the HTML with its images beside it."""
    import css_inline  # noqa: PLC0415 only who sends needs it

    leads = [one.lead for one in ordered]
    values: dict[str, Any] = {
        "entries": [*_entries(ordered[:whole], images, envelope.link)],
        "overview": [(report, _link(envelope.link, report)) for report in leads[:MAX_LISTED]] if len(leads) > 1 else [],
        "decisions": decisions(ordered),
        "operations": [*_operations([report for one in ordered for report in one.intervals[::-1]])],
        "notes": _notes(ordered, whole, len(images)),
        "unsubscribe": envelope.unsubscribe if envelope.unsubscribe.startswith("https:") else "",
    }
    message.set_content(render.rendered("digest.txt.j2", **values), cte="quoted-printable")
    page = render.rendered("digest.html.j2", subject=message["Subject"], **values)
    # What depends on the reader's screen can't be inlined, and stays in the head.
    inliner = css_inline.CSSInliner(keep_style_tags=False, keep_at_rules=True, load_remote_stylesheets=False)
    message.add_alternative(str(inliner.inline(page)), subtype="html", cte="quoted-printable")
    body = message.get_body(("html",))
    assert isinstance(body, EmailMessage)
    for image in images:
        name = f"{image.cid.split('@')[0]}.png"
        body.add_related(image.data, "image", "png", cid=f"<{image.cid}>", disposition="inline", filename=name)


def _operations(intervals: Sequence[Report]) -> Iterator[tuple[str, list[str]]]:
    """Yield how the jobs ran in the intervals in which anything was amiss, else in one, and which interval that is.

    The jobs are those of all tasks: what was told already is not told again.
    """
    told = set[str]()
    for report in [one for one in intervals if amiss(one.facts)][:MAX_OPERATIONS] or intervals[:1]:
        found = [fill(sentence, report.facts, typographic=True) for sentence in operations_told(report.facts)]
        new = [sentence for sentence in found if sentence not in told]
        told.update(new)
        if new:
            yield render.context(report), new


def _notes(ordered: Sequence[Section], whole: int, drawn: int) -> list[str]:
    """What the mail leaves out, and where its numbers come from."""
    notes = []
    shown = [one.lead for one in ordered[:whole]]
    available = sum(name in plots.PLOTS for report in shown for name in report.series)
    dropped = available - drawn
    older = sum(len(one.versions) + len(one.intervals) - 1 - (one.latest is not None) for one in ordered)
    if dropped:
        noun = "plot" if dropped == 1 else "plots"
        notes.append(f"{dropped} {noun} left out to keep this mail small: headrace report show REPORT has all.")
    if older:
        noun = "report" if older == 1 else "reports"
        notes.append(f"{older} earlier {noun} of the period not told one by one: headrace report list has all.")
    if len(ordered) > MAX_LISTED:
        notes.append(f"{len(ordered) - MAX_LISTED} more tasks are not listed: headrace report list has all.")
    if any(fact.fact_id == "comparisons.count" for report in shown for fact in report.facts.facts):
        notes.append(JOINTLY)
    narrators = ", ".join(sorted({report.narrative.narrator for report in shown}))
    ids = ", ".join(report.report_id for report in shown)
    notes.append(f"Numbers are computed; the words ({narrators}) were checked against them. Reports: {ids}.")
    return notes


def _fix_boundaries(message: EmailMessage, digest_id: str) -> None:
    """Python draws boundaries at random; these are part of the same bytes each time."""
    seed = hashlib.sha256(digest_id.encode()).hexdigest()[:24]
    for place, part in enumerate(message.walk()):
        if part.is_multipart():
            part.set_boundary(f"=_{seed}_{place}")
        if part is not message:
            del part["MIME-Version"]
