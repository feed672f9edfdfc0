"""The API's description is what the code does, whole, and by the rules of OpenAPI 3.1."""

import json
import re

from headrace.pipelines.serve.contract import FILE, text

DESCRIBED = json.loads(FILE.read_text())


def test_the_file_is_as_the_code_is():
    """One that has drifted is written anew by `python -m headrace.pipelines.serve.contract`."""
    assert FILE.read_text() == text()


def test_each_reference_leads_somewhere():
    for path in set(re.findall(r'"\$ref": "#/([^"]+)"', FILE.read_text())):
        found = DESCRIBED
        for name in path.split("/"):
            found = found[name]
        assert found


def test_each_operation_says_what_it_takes_and_gives():
    """A summary, a scheme of security, an answer with a schema, problems for the rest."""
    assert DESCRIBED["openapi"].startswith("3.1")
    operations = [one for path in DESCRIBED["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations) >= 30
    for one in operations:
        assert one["summary"]
        assert one["description"]
        assert one["security"] == [{"HTTPBearer": []}]
        (good,) = (answer for status, answer in one["responses"].items() if status in {"200", "202"})
        assert all(content["schema"] for content in good["content"].values()), one["summary"]
        assert {"401", "403", "429", "503", "default"} <= one["responses"].keys()
        assert "422" not in one["responses"]
