"""The house is as docs/architecture.md says: files and names that docs mention, packages, rooms, and sizes."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from headrace.pipelines.settings import DEFAULTS, FILE_SUFFIX, PREFIX

ROOT = Path(__file__).parents[2]
PACKAGES = ("learners", "pipelines", "schemas", "sinks")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BYTEWAX_JOBS = ("ingest", "learn", "explain")

FILE_LINES, CLASS_LINES = 400, 200
LARGE_FILES: dict[str, int] = {}
LARGE_CLASSES = {
    "sinks/kafka/subscription.py KafkaSubscription": 257,
}
"""Too large, and by how much. These tables may only shrink."""

FOREIGN = re.compile("process_")
"""How names begin that a library makes."""


def sources():
    return [path for folder in PACKAGES for path in sorted((ROOT / folder).rglob("*.py"))]


def quoted(document):
    """What stands in code quotes, outside of blocks."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


@cache
def words():
    """Every name of the tree, and every word of its strings; of the settings their variables."""
    folders = (*PACKAGES, "tests", "infra")
    paths = [path for folder in folders for end in ("py", "yaml") for path in (ROOT / folder).rglob(f"*.{end}")]
    found = {word for path in paths for word in re.findall(r"\w+", path.read_text())}
    return found | {PREFIX + name.upper() + end for name in DEFAULTS for end in ("", FILE_SUFFIX)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_a_document_names_is_there(document):
    paths = [text for text in quoted(document) if re.fullmatch(r"[\w.-]+(/[\w.-]+)*(/|\.(py|md|toml|yaml|sh))", text)]
    paths = [text for text in paths if "/" in text and text.partition("/")[0] in {f.name for f in ROOT.iterdir()}]
    assert [text for text in paths if not (ROOT / text).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_name_that_a_document_quotes_is_in_the_tree(document):
    """Of a dotted name each part; of a call its function."""
    names = [re.fullmatch(r"([A-Za-z_][\w.]*_\w*|[A-Z]\w{3,})(\(.*\))?", text) for text in quoted(document)]
    parts = {part for name in names if name for part in name[1].split(".")}
    assert [part for part in parts if not part.endswith("_") and not FOREIGN.match(part) and part not in words()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document):
    for target in re.findall(r"\]\((?!http|mailto)([^)\s]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        found = document.parent / path if path else document
        assert found.exists(), target
        headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE) if anchor else []
        slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, target


def test_every_package_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in sources()}
    assert sorted(listed) == sorted("headrace." + ".".join(folder.parts) for folder in folders)


@pytest.mark.parametrize("room", BYTEWAX_JOBS)
def test_a_streaming_job_begins_with_its_dataflow(room):
    functions = [
        node
        for node in ast.parse((ROOT / f"pipelines/{room}/job.py").read_text()).body
        if isinstance(node, ast.FunctionDef)
    ]
    assert functions[0].name == "dataflow"


def test_every_room_is_in_the_document():
    rooms = {path.parent.relative_to(ROOT) for path in sources()} - {Path(folder) for folder in PACKAGES}
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert [str(room) for room in rooms if room.parts[0] != "sinks" and f"`{room}/" not in text] == []


def test_text_goes_to_a_terminal_by_one_function():
    """It lets no text of others command the terminal; `demo` and `train` redraw lines of their own."""
    own = {"output.py", "demo.py", "train.py"}
    paths = [path for path in sources() if path.parent.name == "cli" and path.name not in own]
    assert [path.name for path in paths if re.search(r"click\.(echo|secho)\(|\bprint\(", path.read_text())] == []


def test_no_file_is_large():
    lines = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in sources()}
    assert_only_smaller({name: count for name, count in lines.items() if count > FILE_LINES}, LARGE_FILES)


def test_no_class_is_large():
    found = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.end_lineno - node.lineno >= CLASS_LINES:
                found[f"{path.relative_to(ROOT)} {node.name}"] = node.end_lineno - node.lineno + 1
    assert_only_smaller(found, LARGE_CLASSES)


def assert_only_smaller(found, allowed):
    assert {name: count for name, count in found.items() if count > allowed.get(name, 0)} == {}, "has grown"
    assert allowed.keys() - found.keys() == set(), "is no longer large: take it out of the table"


def test_each_file_of_tests_has_a_name_of_its_own():
    """pytest refuses two of one name where folders are no packages."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []
