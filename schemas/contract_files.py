"""The contracts that producers and consumers in other languages build against, generated from the code.

    python -m headrace.schemas.contract_files

writes contracts/*.schema.json (JSON Schema 2020-12, one per record on the logs) and contracts/transition.avsc.
"""

import json
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from headrace.schemas.codec_json import HeartbeatRow, Row
from headrace.schemas.records import (
    Directive,
    Layout,
    Mail,
    Operation,
    Rating,
    Report,
    ServingPolicy,
    Subscriber,
    TaskSpec,
    WindowSummary,
)
from headrace.schemas.rules import Rule, rules_for

FOLDER = Path(__file__).with_name("contracts")
RECORDS = {
    "task": TaskSpec,
    "transition": Row,
    "heartbeat": HeartbeatRow,
    "window": WindowSummary,
    "policy": ServingPolicy,
    "report": Report,
    "directive": Directive,
    "mail": Mail,
    "rating": Rating,
    "operation": Operation,
    "subscriber": Subscriber,
}
"""The record that each contract describes, by name."""

MAX_FLOAT32 = 3.4028235e38
_NUMBER: dict[str, Any] = {"type": "number", "minimum": -MAX_FLOAT32, "maximum": MAX_FLOAT32}
_VECTOR = {"type": "array", "items": _NUMBER, "minItems": 1}
_OR_NULL = {"anyOf": [_NUMBER, {"type": "null"}]}
_TERMS = {"type": "object", "additionalProperties": _OR_NULL}
_FINITE = {
    "obs": _VECTOR,
    "next_obs": _VECTOR,
    "reward": _NUMBER,
    "log_prob": {**_OR_NULL, "default": None},
    "reward_terms": {"anyOf": [_TERMS, {"type": "null"}], "default": None},
}
"""The schemas of columns whose numbers must be finite."""
_AVRO = {inspect.IntType: "long", inspect.StrType: "string", inspect.FloatType: "float", inspect.BoolType: "boolean"}


def contracts() -> dict[str, str]:
    """Return each contract's text by its file's name."""
    files = {f"{name}.schema.json": _schema(name) for name in RECORDS}
    files["transition.avsc"] = _avro()
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in files.items()}


def _schema(name: str) -> dict[str, Any]:
    """Return a record's JSON Schema: its types, and for what producers send the rules of every task too."""
    (reference,), definitions = msgspec.json.schema_components([RECORDS[name]], ref_template="#/$defs/{name}")
    for described in definitions.values():
        described["description"] = " ".join(cleandoc(described["description"]).split())
    definition = definitions.pop(reference["$ref"].rpartition("/")[2])
    if name in {"transition", "heartbeat"}:
        properties = definition["properties"]
        properties["schema_version"] = {"const": 1}
        for rule in rules_for(TaskSpec("task", ("x",), ("a",), 1, oldest_ms=0), Layout(log="")):
            _apply(rule, properties)
    if name == "heartbeat":
        definition["properties"]["heartbeat"] = {"const": True}
    if name == "transition":
        definition["properties"]["action"] = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}, _VECTOR]}
        definition["title"] = "Transition"
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"headrace/{name}.schema.json"}
    return {**head, **definition, **({"$defs": definitions} if definitions else {})}


def _apply(rule: Rule, properties: dict[str, Any]) -> None:
    """Add a rule to the schema of its column; what depends on the task or on the clock is left to ingest."""
    if rule.column not in properties or rule.name in {"action", "clock", "log_prob"}:
        return
    if rule.kind == "pattern":
        properties[rule.column] = {"type": "string", "pattern": rule.pattern}
    elif rule.kind == "between":
        properties[rule.column] = {"type": "integer", "minimum": rule.low, "maximum": rule.high}
    else:
        properties[rule.column] = _FINITE[rule.column]


def _avro() -> dict[str, Any]:
    info = inspect.type_info(Row)
    assert isinstance(info, inspect.StructType)
    fields = []
    for field in info.fields:
        content = {"name": field.name, "type": _avro_type(field.type)}
        fields.append(content if field.required else {**content, "default": None})
    doc = "One transition of an agent; obs and next_obs have a value per observation of the task."
    return {"type": "record", "name": "Transition", "namespace": "headrace", "doc": doc, "fields": fields}


def _avro_type(kind: inspect.Type) -> Any:  # noqa: ANN401 a name, a dict or a list: Avro's own JSON
    if isinstance(kind, inspect.UnionType):
        members = [_avro_type(member) for member in kind.types]
        return sorted(members, key=lambda member: member != "null")  # a default must be of the first type
    if isinstance(kind, inspect.NoneType):
        return "null"
    if isinstance(kind, inspect.DictType):
        return {"type": "map", "values": _avro_type(kind.value_type)}
    if isinstance(kind, inspect.RawType | inspect.ListType):
        return {"type": "array", "items": "float"}
    return _AVRO[type(kind)]


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in contracts().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
