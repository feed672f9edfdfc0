"""Taking a policy away: a file of another runtime, and a model card beside it."""

from pathlib import Path
from typing import Any

from headrace.learners.acting import load_policy
from headrace.pipelines.policies.card import card
from headrace.pipelines.policies.control import find
from headrace.pipelines.policies.portable import FORMATS, Portable, to_json
from headrace.pipelines.published import published
from headrace.schemas.errors import SettingsError, UnknownPolicyError
from headrace.schemas.ports import Log, PolicyStore
from headrace.schemas.records import PolicyVersion, TaskSpec
from headrace.sinks.files.policies import replace_file


def export(
    log: Log, store: PolicyStore, spec: TaskSpec | None, task: str, number: int | None, file: Path
) -> tuple[int, list[Path]]:
    """Write a version, or the one that serves (None), and its card; return the version and the files.

    Raises SettingsError for a suffix that is none of FORMATS, UnknownPolicyError, CorruptDataError, StorageError.
    """
    if file.suffix not in FORMATS:
        raise SettingsError(f"{file}: the suffix says the format: {', '.join(FORMATS)} are known")
    decisions = published(log, task)
    if number is None:
        number = decisions[-1].version if decisions else 0
    if not number:
        raise UnknownPolicyError(f"no version of {task} serves: name one, such as {task}@1 (`headrace policy list`)")
    chain = _ancestry(store, task, number)
    policy = Portable.of(load_policy(store.weights(task, number)))
    written = {file: FORMATS[file.suffix](policy)}
    if file.suffix == ".safetensors":
        written[file.with_suffix(".json")] = to_json(policy, _told(chain[-1], spec))
    text = card(chain, spec, decisions, policy.kind, file.name)
    written[file.with_suffix(".md")] = text.encode()
    for path, data in written.items():
        replace_file(path, data)
    return number, [*written]


def _ancestry(store: PolicyStore, task: str, number: int) -> list[PolicyVersion]:
    """Return what the version was trained on from, as far as the store still has it; itself last."""
    chain = [find(store, task, number)]
    versions = {one.version: one for one in store.versions(task)}
    while (parent := chain[0].parent) is not None and parent in versions:
        chain.insert(0, versions[parent])
    return chain


def _told(version: PolicyVersion, spec: TaskSpec | None) -> dict[str, Any]:
    actions = spec.actions if spec else None
    return {
        "policy": f"{version.task}@{version.version}",
        "weights_hash": version.weights_hash,
        "observations": spec.observations if spec else None,
        "actions": actions
        if actions is None or isinstance(actions, tuple)
        else {"low": actions.low, "high": actions.high},
    }
