"""The contracts are what the code does: generated from it, and checked against it from outside."""

import io
import json
import re
from pathlib import Path

import fastavro
import jsonschema
import msgspec
import numpy as np
import pytest
from codec_examples import LAYOUT, SPECS, T0, accepted, batch_of, check, message, row, row_values
from test_codec_json import REJECTED
from test_rules import BAD

from headrace.pipelines.ingest.items import Opened
from headrace.pipelines.ingest.partition import open_partition
from headrace.schemas import codec
from headrace.schemas.checker import known_task
from headrace.schemas.contract_files import FOLDER, RECORDS, contracts
from headrace.schemas.errors import InvalidTaskError
from headrace.schemas.records import decode_task
from headrace.schemas.rules import MESSAGE_RULES

TOPICS = (Path(__file__).parents[2] / "docs" / "topics.md").read_text()
EXAMPLES = re.findall(r"```json (\w+)\n(.*?)```", TOPICS, re.DOTALL)


def validator(name):
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", [*(f"{name}.schema.json" for name in RECORDS), "transition.avsc"])
def test_files_are_as_the_code_is(name):
    """A contract that has drifted is written anew by `python -m headrace.schemas.contract_files`."""
    assert (FOLDER / name).read_text() == contracts()[name]


def test_no_other_files():
    """The API's own description is held to the code by tests/flows/test_serve_openapi.py."""
    assert {path.name for path in FOLDER.iterdir()} == {*contracts(), "openapi.json"}


@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[f"{i}-{n}" for i, (n, _) in enumerate(EXAMPLES)])
def test_examples_of_the_documentation(name, text):
    """Each example keeps its contract, and headrace's own code reads it."""
    value = json.loads(text)
    validator(name).validate(value)
    if name in {"transition", "heartbeat"}:
        spec = msgspec.json.decode(EXAMPLES[0][1], type=RECORDS["task"])
        tasks = {spec.task: known_task(spec, 0, LAYOUT)}
        checked = codec.check(batch_of([text.encode()]), tasks, LAYOUT)
        assert not checked.rejected
        if name == "transition":
            assert codec.to_records(checked.batches[0], spec) == [value]
    else:
        record = msgspec.json.decode(text, type=RECORDS[name])
        assert msgspec.json.decode(msgspec.json.encode(record), type=RECORDS[name]) == record
        validator(name).validate(json.loads(msgspec.json.encode(record)))


TASK = '{"task": "t", "observations": ["x"], "actions": ["a"], "window_ms": 5'


def test_a_task_file_may_begin_with_a_byte_order_mark():
    assert decode_task(b"\xef\xbb\xbf" + TASK.encode() + b', "oldest_ms": 0}').oldest_ms == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ((TASK + "}").encode("utf-16"), "task file: it is UTF-16 text"),
        (
            TASK.encode() + b', "bounds": {"low": [-Infinity], "high": [1]}}',
            "NaN and Infinity are no JSON, the largest",
        ),
        (TASK.encode() + b', "oldest_ms": -1}', "task t: oldest_ms is -1; 0 to 253402300799999 are allowed"),
        (TASK.encode() + b', "oldest_ms": "2001"}', r"Expected `int`, got `str` - at `\$.oldest_ms`"),
        (b'{"task": "\xff"}', "task file: "),
    ],
)
def test_a_task_file_that_is_wrong_is_refused(text, reason):
    with pytest.raises(InvalidTaskError, match=reason):
        decode_task(text)


def test_a_policy_record_of_an_older_log_is_read():
    """It may name a version that serves a share of the fleet, which no record does any more."""
    value = {"task": "valve", "version": 3, "weights_hash": "9f", "decided_by": "gate", "reason": "", "ts": 1}
    older = value | {"canary": None, "share": 0.0, "schema_version": 1}
    validator("policy").validate(older)
    policy = RECORDS["policy"]
    assert msgspec.json.decode(json.dumps(older), type=policy) == msgspec.json.decode(json.dumps(value), type=policy)


def test_every_record_has_an_example():
    assert {name for name, _ in EXAMPLES} == RECORDS.keys()


def test_every_rule_is_in_the_documentation():
    rules = {
        *MESSAGE_RULES,
        *(rule.name for spec in SPECS.values() for rule in known_task(spec, 0, LAYOUT).rules),
    }
    table = TOPICS[TOPICS.index("| rule |") : TOPICS.index("Of several rules")]
    named = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))
    assert named == rules


def test_a_real_window_keeps_its_contract():
    """What ingest tells of real rows, late ones and duplicates among them."""
    values = [
        message("arm", step=i, ts=T0 + 100 * (i % 7), policy_version=i % 2, agent_id=f"a{i % 3}") for i in range(9)
    ]
    messages = batch_of([*values, *values[:2], codec.heartbeat("arm", "a", T0 + 60_000)], first=0)
    messages.append_ts[:] = T0 + 60_000
    checked = codec.check(messages, {"arm": known_task(SPECS["arm"], 0, LAYOUT)}, LAYOUT)
    fold = open_partition(Opened(0, 0, 0), LAYOUT, SPECS, lambda *_: ())
    fold.add(checked.batches, int(checked.stream_ts.max()), len(messages))
    windows = fold.fold().windows
    assert windows
    for window in windows:
        validator("window").validate(json.loads(window.summary))


def schema_of_messages(value):
    """Whether a JSON message keeps the contracts: a transition, an array of transitions, or a heartbeat."""
    content = json.loads(value, parse_constant=lambda _: pytest.skip("not JSON"))
    if isinstance(content, list):
        return bool(content) and all(map(validator("transition").is_valid, content))
    return validator("transition").is_valid(content) or validator("heartbeat").is_valid(content)


def test_what_is_accepted_keeps_the_contract():
    for value in (message(), message("arm", reward_terms={"speed": 1, "x": None}, log_prob=-1), message(step=0)):
        assert not check([value]).rejected
        assert schema_of_messages(value)
    assert schema_of_messages(json.dumps([row(), row(step=8)]).encode())
    assert schema_of_messages(codec.heartbeat("valve", "a", 0))


OF_TASK_OR_TIME = {
    "clock",
    "action",
    "log_prob",
    "obs_bounds",
    "next_obs_bounds",
    "width",
    "unknown_task",
    "one_agent",
    "size",
}


@pytest.mark.parametrize(
    "value",
    [value for rule, value, _ in BAD if rule not in OF_TASK_OR_TIME]
    + [value for value, rule, _ in REJECTED.values() if rule in {"type", "schema_version"}],
)
def test_what_is_rejected_breaks_the_contract(value):
    """Types and rules that hold for every task are in the contract; a validator needs no task to apply them."""
    reason = check([value]).rejected[0].reason
    try:
        valid = schema_of_messages(value)
    except (ValueError, RecursionError):
        return
    if valid:  # what depends on the task, JSON's own idea of an integer, and Python's idea of `$` pass the contract
        assert re.search(r"action|oldest_ms|1 values|several schema_versions|'a\\n'", reason), reason


def test_avro():
    """A transition goes through Avro and comes back to the bit."""
    schema = fastavro.parse_schema(json.loads((FOLDER / "transition.avsc").read_text()))
    for value in (
        message("arm", reward_terms={"speed": 0.25, "cost": None}, policy_version=3, log_prob=-0.5),
        message(),
        message(obs=[0.1, -0.0], reward=1e-45),
    ):
        batch = accepted(value)
        (record,) = codec.to_records(batch, SPECS[batch.task])
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, schema, record, strict_allow_default=True)
        stream.seek(0)
        again = fastavro.schemaless_reader(stream, schema, None)
        assert row_values(accepted(json.dumps(again).encode())) == row_values(batch)
        assert np.float32(again["reward"]) == batch.reward[0]
