"""The digest e-mail, composed from reports. Pure: the same reports and envelope give the same bytes.

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
from functools import cache
from typing import Any

from headrace.learners.explain.template import TemplateNarrator
from headrace.learners.explain.template_operations import amiss, operations_told
from headrace.pipelines.report import plots, render
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
"""Reports that are told whole; of others only the verdict."""
MAX_LISTED = 40
"""Others of which the verdict is listed."""
MAX_OPERATIONS = 8
"""Intervals of which it is told how the jobs ran."""
MAX_SUBJECT = 180
SHARPNESS_DPI = (120, 90)
JOINTLY = "Better, worse: by Holm's correction; intervals: 95 % each."
"""The footer's one line on simultaneous claims."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where a digest goes. unsubscribe: a mailto: or https: URL, complete. link: of a page, with {report_id}."""

    sender: str
    recipients: tuple[str, ...]
    unsubscribe: str
    link: str = ""


def compose(reports: Sequence[Report], digest_id: str, date_ms: int, envelope: Envelope) -> EmailMessage:
    """Make the mail of at least one report. digest_id: its identity across retries. date_ms: its Date."""
    assert reports, "a digest tells of at least one report"
    ordered = ranked(reports)
    by_id = {report.report_id: report for report in ordered}

    @cache
    def draw(report_id: str, name: str, dpi: int) -> render.Image:
        return render.image(by_id[report_id], name, dpi=dpi)

    for whole, dpi, pictures in _plans(ordered):
        images = [draw(*picture, dpi) for picture in pictures]
        message = _message(ordered, whole, images, digest_id, date_ms, envelope)
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
        return (superseded, not version, age, order[render.direction(report)], -report.end_ms, report.report_id)

    return sorted(reports, key=rank)


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


Entry = tuple[Report, list[render.Image], str]
"""A report that is told whole, its plots, and the link to its page."""


def _message(
    ordered: Sequence[Report], whole: int, images: list[render.Image], digest_id: str, date_ms: int, envelope: Envelope
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
    entries: list[Entry] = [
        (
            report,
            [image for image in images if image.report_id == report.report_id],
            envelope.link.replace("{report_id}", report.report_id),
        )
        for report in ordered[:whole]
    ]
    _add_body(message, entries, ordered, _notes(ordered, whole, len(images)), envelope.unsubscribe)
    _fix_boundaries(message, digest_id)
    return message


def _add_body(
    message: EmailMessage, entries: list[Entry], ordered: Sequence[Report], notes: list[str], unsubscribe: str
) -> None:
    """Add the text, for readers who see no HTML and for their machines, and the HTML with its images beside it."""
    import css_inline  # noqa: PLC0415 only who sends needs it

    others = [f"{report.task}: {render.title(report)}" for report in ordered[len(entries) :][:MAX_LISTED]]
    operations = list(_operations(ordered))
    values: dict[str, Any] = {"entries": entries, "others": others, "operations": operations, "notes": notes}
    values["unsubscribe"] = unsubscribe if unsubscribe.startswith("https:") else ""
    message.set_content(render.rendered("digest.txt.j2", **values), cte="quoted-printable")
    page = render.rendered("digest.html.j2", subject=message["Subject"], **values)
    inliner = css_inline.CSSInliner(keep_style_tags=False, load_remote_stylesheets=False)
    message.add_alternative(str(inliner.inline(page)), subtype="html", cte="quoted-printable")
    body = message.get_body(("html",))
    assert isinstance(body, EmailMessage)
    for image in (image for _, images, _ in entries for image in images):
        name = f"{image.cid.split('@')[0]}.png"
        body.add_related(image.data, "image", "png", cid=f"<{image.cid}>", disposition="inline", filename=name)


def _operations(ordered: Sequence[Report]) -> Iterator[tuple[str, list[str]]]:
    """Yield how the jobs ran in the intervals in which anything was amiss, else in one, and which interval that is.

    The jobs are those of all tasks: what was told already is not told again.
    """
    told = set[str]()
    intervals = [report for report in ordered if report.kind == "interval"]
    for report in [one for one in intervals if amiss(one.facts)][:MAX_OPERATIONS] or intervals[:1]:
        found = [fill(sentence, report.facts, typographic=True) for sentence in operations_told(report.facts)]
        new = [sentence for sentence in found if sentence not in told]
        told.update(new)
        if new:
            yield render.context(report), new


def _notes(ordered: Sequence[Report], whole: int, drawn: int) -> list[str]:
    """What the mail leaves out, and where its numbers come from."""
    notes = []
    available = sum(name in plots.PLOTS for report in ordered for name in report.series)
    dropped, untold = available - drawn, len(ordered) - whole
    if dropped:
        noun = "plot" if dropped == 1 else "plots"
        notes.append(f"{dropped} {noun} left out to keep this mail small: headrace report show REPORT has all.")
    if untold > MAX_LISTED:
        notes.append(f"{untold - MAX_LISTED} more reports are not listed: headrace report list has all.")
    shown = ordered[:whole]
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
