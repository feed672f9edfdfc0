"""A task file with a bad name is refused by that name, with one that would do."""

import json

import pytest

from headrace.schemas.errors import InvalidTaskError
from headrace.schemas.records import decode_task

GOOD = {"task": "valve", "observations": ["x.0", "x+1"], "actions": ["open", "shut"], "window_ms": 1000}


@pytest.mark.parametrize(
    ("field", "names", "told"),
    [
        ("observations", ["x", "flow rate (l/s)"], "observations: 'flow rate (l/s)' is no name.*as 'flow_rate_l_s'"),
        ("observations", ["x", "y", "x"], "observations: 'x' is there twice"),
        ("actions", ["open", "\u958b\u304f"], "actions: '\u958b\u304f' is no name: 1 to 64 of A-Z"),
        ("actions", ["a" * 65], "as 'a{64}'"),
        ("reward_terms", [""], "reward_terms: '' is no name"),
    ],
)
def test_the_bad_name_is_named(field: str, names: list[str], told: str) -> None:
    decode_task(json.dumps(GOOD).encode())
    with pytest.raises(InvalidTaskError, match=told.replace("(l/s)", r"\(l/s\)")):
        decode_task(json.dumps(GOOD | {field: names}).encode())


def test_a_file_that_is_nested_without_end_is_refused() -> None:
    text = json.dumps(GOOD | {"environment": "E", "environment_kwargs": {"a": 0}})
    with pytest.raises(InvalidTaskError, match="recursion"):
        decode_task(text.replace('"a": 0', '"a": ' + 100_000 * "[").encode())
