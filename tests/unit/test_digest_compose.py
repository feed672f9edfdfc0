"""The digest e-mail: its headers, its order, its size, and the same bytes each time."""

from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

import msgspec
import numpy as np
import pytest
from outcome_examples import report as of_outcomes
from outcome_examples import version_facts_of
from outcome_examples import version_report as with_outcomes
from test_explain_samples import START, interval_report, version_report

from headrace.pipelines.report import compose as digest
from headrace.pipelines.report.compose import LIMIT_BYTES, Envelope, compose, subject
from headrace.pipelines.report.sections import course, decisions, sections
from headrace.schemas.records import Fact, Facts, Narrative, Report, Sentence, Series

ENVELOPE = Envelope(
    "headrace <headrace@example.org>",
    ("boss@example.org", "ops@example.org"),
    "https://example.org/unsubscribe",
    "https://example.org/reports/{report_id}",
)


def composed(*reports: Report, envelope: Envelope = ENVELOPE) -> EmailMessage:
    data = compose(reports, "digest-1", START, envelope).as_bytes()
    parsed = message_from_bytes(data, policy=SMTP)
    assert isinstance(parsed, EmailMessage)
    return parsed


def plain(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def html(message: EmailMessage) -> str:
    body: Any = message.get_body(("html",))
    return str(body.get_content())


def test_the_subject_is_verdict_and_change() -> None:
    other = msgspec.structs.replace(interval_report(), task="other")
    text = subject(sections([other, interval_report(), version_report()]))
    assert text.startswith("cloud: v7 is better than v5 by +")
    assert "(95 % +" in text
    assert text.endswith(", and 1 more task")
    assert text.isascii()


def test_the_headers_are_those_of_a_good_list() -> None:
    message = composed(version_report())
    assert message["Message-ID"] == "<digest-1@example.org>"
    assert message["Date"] == "Thu, 01 Jan 2026 00:00:00 +0000"
    assert message["List-Unsubscribe"] == "<https://example.org/unsubscribe>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message["To"] == "boss@example.org, ops@example.org"
    assert message["Auto-Submitted"] == "auto-generated"


def test_text_comes_first_and_images_lie_beside_the_html() -> None:
    message = composed(version_report(), interval_report())
    kinds = [part.get_content_type() for part in message.walk()]
    assert kinds[:4] == ["multipart/alternative", "text/plain", "multipart/related", "text/html"]
    assert set(kinds[4:]) == {"image/png"}
    page = html(message)
    cids = [part["Content-ID"][1:-1] for part in message.walk() if part.get_content_type() == "image/png"]
    assert all(page.count(f"cid:{cid}") == 1 for cid in cids)
    assert len(cids) == 4
    style = page[page.index("<style") : page.index("</style>")]
    assert "prefers-color-scheme: dark" in style
    assert "h1.up { border-left" not in style  # it is inlined
    assert 'style="' in page
    assert "{" not in plain(message)
    assert "https://example.org/reports/cloud.version.7" in plain(message)


def test_the_same_reports_give_the_same_bytes() -> None:
    first, second = (compose([version_report()], "digest-1", START, ENVELOPE).as_bytes() for _ in range(2))
    assert first == second
    assert len(first) < LIMIT_BYTES
    assert first.count(b"\r\n") == first.count(b"\n")


def bad_news(number: int, end_ms: int = START) -> Report:
    fact = Fact("return.vs-rate_rule", "the rate rule, difference in return", -2.0, "return", -3.0, -1.0, "down")
    facts = Facts("cloud", f"v{number}", (Fact("version.policy", "this", number, "version"), fact))
    narrative = Narrative("template", Sentence("{@subject}"), ())
    return Report(f"cloud.version.{number}", "cloud", "version", end_ms, end_ms, number, facts, narrative, {})


def renamed(report: Report, task: str) -> Report:
    facts = msgspec.structs.replace(report.facts, task=task)
    report_id = report.report_id.replace("cloud", task)
    return msgspec.structs.replace(report, task=task, report_id=report_id, facts=facts)


def test_a_task_is_one_section_led_by_what_serves_now() -> None:
    (one,) = sections([interval_report(), bad_news(3), version_report(), bad_news(10, START + 1), bad_news(9)])
    assert one.lead.report_id == "cloud.version.10"
    assert [report.policy_version for report in one.versions] == [3, 7, 9, 10]
    assert one.latest == interval_report()


def test_what_is_worse_comes_first_and_what_has_no_version_last() -> None:
    order = sections([renamed(interval_report(), "a"), version_report(), renamed(bad_news(1), "z")])
    assert [section.task for section in order] == ["z", "cloud", "a"]


def test_verdict_and_outcomes_stand_in_the_first_lines() -> None:
    lines = plain(composed(with_outcomes(), interval_report())).replace("\u00a0", " ").splitlines()
    assert " ".join(lines[:2]).startswith("v7 returns more than v5 (+3.5 return), but: time above the SLO ")
    assert "replicas" in " ".join(lines[:2])


def test_of_many_versions_the_first_and_the_last_are_told() -> None:
    reports = [with_outcomes(), with_outcomes(5, None), *(bad_news(6) for _ in range(2))]
    (one,) = sections(reports)
    told = course(one).replace("\u00a0", " ")
    start = "3 versions came to serve in this period (v5, v6, v7). From v5 to now: time above the SLO "
    assert told.startswith(start)
    assert told.removeprefix(start).count(" to ") == 5
    assert told.endswith(" return.")
    mail = composed(*reports)
    assert plain(mail).count("came to serve in this period") == 1
    assert "1 earlier report" not in plain(mail)
    assert "2 earlier reports of the period" in plain(mail)
    assert course(sections([with_outcomes()])[0]) == ""


def interval_of(*facts: Fact, task: str = "cloud", number: int = 1) -> Report:
    return of_outcomes(f"{task}.interval.{number}", Facts(task, "then", facts))


def test_what_people_must_decide_is_said_with_what_helps() -> None:
    rejected = (Fact("rejected.total", "x", 4, "messages"), Fact("rejected.size", "x", 4, "messages"))
    reports = [
        interval_of(*rejected, Fact("directives.proposed", "x", 2, "changes"), number=1),
        interval_of(*rejected, Fact("refusals.count", "x", 3, "candidates"), number=2),
        interval_of(*rejected, Fact("refusals.count", "x", 2, "candidates"), task="other"),
        bad_news(3),
    ]
    told = decisions(sections(reports))
    assert [tuple(one) for one in told] == [
        (
            "cloud: v3 serves and is worse than what it is compared with. Go back:",
            "headrace policy rollback cloud",
        ),
        (
            "cloud: the gate refused 3 candidates in a row; learning may be stuck. See why:",
            "headrace policy list --task cloud",
        ),
        (
            "cloud: the advisor proposed 2 changes of learning, which nobody has made. See them:",
            "headrace directive list --task cloud",
        ),
        ("Rejected as bad data: 8 messages (by rule: size 8). See why:", "headrace rejected summary"),
    ]
    text = plain(composed(*reports))
    assert text.index("Needs a decision") < text.index("serving since")
    assert "\n  headrace policy rollback cloud" in text
    assert "Nothing needs a decision." in plain(composed(version_report()))


def test_fifty_versions_of_twenty_tasks_are_one_small_mail() -> None:
    facts = version_facts_of(7, 5)
    reports = [
        renamed(of_outcomes(f"cloud.version.{number}", facts, number), f"cloud-{task}")
        for task in range(20)
        for number in range(50)
    ]
    message = compose(reports, "digest-1", START, ENVELOPE)
    assert len(message.as_bytes()) < LIMIT_BYTES
    assert html(message).count('<a href="https://example.org/reports/cloud-') == 26
    assert message["Subject"].endswith(", and 19 more tasks")


def test_the_footer_says_in_one_line_how_claims_and_intervals_are_meant() -> None:
    assert digest.JOINTLY in plain(composed(version_report())).splitlines()
    assert digest.JOINTLY in html(composed(version_report())).replace("&#39;", "'")
    assert digest.JOINTLY not in plain(composed(bad_news(1)))


def test_many_tasks_are_told_by_their_verdict_alone() -> None:
    message = composed(*[renamed(bad_news(1), f"task-{number}") for number in range(60)])
    text = plain(message)
    assert text.count("is worse than") == 12
    assert "48 more; all reports:" in text
    assert "20 more tasks are not listed" in text
    assert message["Subject"].endswith(", and 59 more tasks")


def noisy(report: Report, seed: int) -> Report:
    rng = np.random.default_rng(seed)
    lines = [
        Series(f"line {place}", tuple(map(float, range(200))), tuple(map(float, rng.normal(size=200))))
        for place in range(2)
    ]
    return msgspec.structs.replace(report, report_id=f"cloud.interval.{seed}", series={"reward": lines})


def test_a_mail_that_is_too_large_drops_the_least_important_plots_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "LIMIT_BYTES", 30_000)
    reports = [version_report(), *(noisy(interval_report(), seed) for seed in range(4))]
    message = compose(reports, "digest-1", START, ENVELOPE)
    assert len(message.as_bytes()) < 30_000
    assert "left out to keep this mail small" in plain(message)
    assert "terms" in "".join(part["Content-ID"] or "" for part in message.walk())


def test_a_line_break_in_a_name_cannot_add_a_header() -> None:
    fact = Fact("return.vs-hpa", "x\r\nBcc: evil@example.org, y", 1.0, "return", 0.5, 1.5, "up")
    facts = Facts("cloud", "v1", (Fact("version.policy", "this", 1, "version"), fact))
    report = msgspec.structs.replace(bad_news(1), facts=facts)
    message = composed(report)
    assert message["Bcc"] is None
    assert "Bcc: evil" in message["Subject"]


def test_a_long_link_to_unsubscribe_goes_out_as_it_is() -> None:
    """In one line, and not as encoded words, which would break one-click; it stands in the body too."""
    link = f"https://headrace.example.org/unsubscribe/{'0' * 24}.{'A' * 22}"
    data = compose([bad_news(1)], "digest-1", START, replace(ENVELOPE, unsubscribe=link)).as_bytes(
        policy=SMTP.clone(cte_type="7bit")
    )
    assert f"\r\nList-Unsubscribe: <{link}>\r\n".encode() in data
    message = composed(bad_news(1), envelope=replace(ENVELOPE, unsubscribe=link))
    assert f"Unsubscribe: {link}" in plain(message)
    assert f'href="{link}"' in html(message)


def test_names_and_long_texts_of_any_language_arrive() -> None:
    envelope = replace(ENVELOPE, recipients=("=?utf-8?q?Zo=C3=AB_M=C3=BCller?= <zoe@example.org>",))
    assert composed(bad_news(1), envelope=envelope)["To"] == "Zoë Müller <zoe@example.org>"
    fact = Fact("return.vs-hpa", f"größer {'ä' * 300}, y", 1.0, "return", 0.5, 1.5, "up")
    report = msgspec.structs.replace(bad_news(1), facts=Facts("cloud", "v1", (bad_news(1).facts.facts[0], fact)))
    data = compose([report], "digest-1", START, ENVELOPE).as_bytes(policy=SMTP.clone(cte_type="7bit"))
    assert data.isascii()
    assert max(map(len, data.split(b"\r\n"))) <= 998
    assert "größer ää" in composed(report)["Subject"]


def test_an_address_without_a_domain_still_gives_a_message_id() -> None:
    envelope = Envelope("headrace", ("boss",), "mailto:x@example.org")
    message = composed(bad_news(1), envelope=envelope)
    assert message["Message-ID"] == "<digest-1@headrace>"
    assert message["List-Unsubscribe-Post"] is None
