"""Rendering: JSON, Markdown, HTML and plots; the same bytes each time, and nothing unescaped."""

import io
import re
from html.parser import HTMLParser

import msgspec
import pytest
from PIL import Image
from test_explain_samples import interval_report, version_report

from headrace.learners.explain.template import BARE
from headrace.pipelines.report import plots
from headrace.pipelines.report.render import images, to_html, to_json, to_markdown
from headrace.schemas.records import Fact, Facts, Narrative, Report, Sentence, Series

EVIL = "<script>alert('x')</script> [link](http://evil) |"


@pytest.fixture(params=[version_report, interval_report], ids=["version", "interval"])
def report(request: pytest.FixtureRequest) -> Report:
    made: Report = request.param()
    return made


def test_the_page_is_self_contained_and_says_everything(report: Report) -> None:
    page = to_html(report)
    assert page == to_html(report)
    for tag in ("<h1", "<title>", 'name="viewport"', "@media print", "All facts"):
        assert tag in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == len(report.series)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(len(text) > 20 for text in re.findall(r'alt="([^"]*)"', page))
    assert "{" not in page.split("</style>")[1]
    assert page.count("<tr>") == len(report.facts.facts)


def test_markdown_has_verdict_sentences_and_facts(report: Report) -> None:
    text = to_markdown(report)
    assert text == to_markdown(report)
    assert text.startswith("# ")
    assert text.count("\n- ") == len(report.narrative.sentences)
    assert text.count("\n| ") == len(report.facts.facts) + text.count("| Fact |")


def footer_of(text: str) -> str:
    return text.rstrip().rsplit("\n", 1)[-1]


def test_the_footer_says_what_an_interval_is_worth(report: Report) -> None:
    """Both of the page and of the Markdown: each for itself alone, and how claims among many were made."""
    text = footer_of(to_markdown(report))
    assert "for itself alone" in text
    count = "28 comparisons" if report.kind == "version" else "4 comparisons"
    assert f"Holm's correction for all of this report's {count}" in text
    assert ("This report's traces are the same for every version" in text) == (report.kind == "version")
    assert ("More is better in every part of the reward." in text) == (report.kind == "interval")
    assert "for itself alone" in to_html(report)


def test_the_footer_says_when_the_figures_are_the_gates_own() -> None:
    facts = Facts("pump", "v1", (Fact("return.vs-serving", "a", 1.0, "return", 0.5, 1.5, "up"),))
    report = msgspec.structs.replace(version_report(), facts=facts, series={})
    text = footer_of(to_markdown(msgspec.structs.replace(report, narrative=BARE)))
    assert "The returns are the gate's own" in text
    assert "Holm" not in text
    assert "others" not in text
    estimated = msgspec.structs.replace(facts, facts=(*facts.facts, Fact("judged.data", "rows", 1, "version")))
    text = footer_of(to_markdown(msgspec.structs.replace(report, facts=estimated, narrative=BARE)))
    assert "estimates from recorded rows" in text


def test_json_is_the_report_itself(report: Report) -> None:
    assert msgspec.json.decode(to_json(report), type=Report) == report


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def test_names_from_elsewhere_are_escaped() -> None:
    facts = Facts("cloud", EVIL, (Fact("rows.total", EVIL, 3, EVIL),))
    narrative = Narrative(EVIL, Sentence("{rows.total@label}"), (Sentence("{@subject}"),))
    series = {"reward": [Series(EVIL, (0.0, 1.0), (1.0, 2.0))], EVIL: [Series("x", (), ())]}
    report = Report("a", "cloud", "interval", 0, 1, None, facts, narrative, series)
    tags = Tags()
    tags.feed(to_html(report))
    assert "script" not in tags.seen
    assert "a" not in tags.seen
    markdown = to_markdown(report)
    assert "<script>" not in markdown
    assert "[link](" not in markdown


@pytest.mark.parametrize("name", plots.PLOTS)
def test_a_plot_is_a_small_png_and_the_same_each_time(name: str) -> None:
    ranges = [Series("the action", (0.0, 1.0), (0.5, 1.5), ("x > 1", "x \u2264 1"), (0.0, 1.0), (1.0, 2.0))]
    shares = [Series(name, (0.0, 1.0, 2.0), (20.0, 50.0, 30.0)) for name in ("this interval", "the interval before")]
    known = version_report().series | interval_report().series | {"action_range": ranges, "action_shares": shares}
    series = known[name]
    first = plots.png(name, series, dpi=90)
    assert first == plots.png(name, series, dpi=90)
    picture = Image.open(io.BytesIO(first))
    assert picture.width == pytest.approx(576, abs=2)
    assert set(picture.info) == {"dpi"}
    assert len(first) < 40_000
    assert plots.alternative(name, series).startswith(plots.PLOTS[name].title)


def test_a_plot_of_many_actions_or_of_odd_names_is_drawn() -> None:
    labels = ("$a_b^$", "high")
    mix = [Series(f"_action-{place}", (0.0, 1.0), (12.5, 12.5), labels) for place in range(8)]
    assert plots.png("action_mix", mix, dpi=60)


def test_plots_of_unknown_names_are_passed_over() -> None:
    report = msgspec.structs.replace(interval_report(), series={"other": [Series("x", (), ())]})
    assert images(report, dpi=60) == []
