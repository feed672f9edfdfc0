"""Reports as files: a page, Markdown and data, each under the report's id."""

from pathlib import Path

from headrace.pipelines.report import render
from headrace.schemas.records import Report


def write_report(report: Report, folder: Path) -> Path:
    """Write the report's three files into a folder that exists; returns the page's path. Raises OSError."""
    page = folder / f"{report.report_id}.html"
    page.write_text(render.to_html(report), encoding="utf-8")
    page.with_name(f"{report.report_id}.md").write_text(render.to_markdown(report), encoding="utf-8")
    page.with_name(f"{report.report_id}.json").write_bytes(render.to_json(report))
    return page
