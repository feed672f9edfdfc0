"""A model card: what a policy learned from, how it was judged, what it is good for. Markdown, beside its file."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from headrace.schemas.policy_versions import OPPONENTS, level_of, opponent_of
from headrace.schemas.records import UNKNOWN_ROW, Interval, PolicyVersion, ServingPolicy, TaskSpec


def card(
    chain: Sequence[PolicyVersion], spec: TaskSpec | None, decisions: Sequence[ServingPolicy], kind: str, file: str
) -> str:
    """Describe the last version of a chain, each of which was trained on from the one before.

    spec: None for a task that was learned in simulation alone. decisions: the task's records on `policies`, in order.
    kind: as `Portable` has it.
    """
    version = chain[-1]
    sections = {
        f"{version.task}@{version.version}": _head(version, decisions, file),
        "What it learned from": _learned(chain, spec),
        "How it was judged": _judged(version, decisions),
        "What it sees and does": _shape(spec, kind),
        "Limits": _limits(version, kind),
        "Settings": [f"- {name}: {value}" for name, value in sorted(version.config.items())],
    }
    parts = [
        f"{'#' if not i else '##'} {title}\n\n" + "\n".join(lines) for i, (title, lines) in enumerate(sections.items())
    ]
    return "\n\n".join(parts) + "\n"


def _head(version: PolicyVersion, decisions: Sequence[ServingPolicy], file: str) -> list[str]:
    serves = bool(decisions) and decisions[-1].version == version.version
    return [
        f"- file: `{file}`",
        f"- algorithm: {version.algorithm}, {_count(version.updates, 'update')}, seed {version.seed}",
        f"- weights: SHA-256 {version.weights_hash} (as `headrace policy replay` compares it)",
        f"- trained by: headrace {version.code_version}",
        f"- serves: {'yes' if serves else 'no'}, when this was written",
    ]


def _learned(chain: Sequence[PolicyVersion], spec: TaskSpec | None) -> list[str]:
    version = chain[-1]
    if version.config.get("source") == "simulation":
        return [f"- {_count(version.environment_steps, 'step')} in the environment {version.config['environment']}"]
    entries = [entry for one in chain for entry in one.lineage]
    starts = [entry.reference.start_ms for entry in entries]
    lines = [f"- {_count(version.environment_steps, 'row')} from the stream"]
    if starts:
        windows = len({(entry.reference.start_ms, entry.reference.group) for entry in entries})
        end_ms = max(starts) + (spec.window_ms if spec else 0)
        lines[0] += f", of {_count(len(entries), 'chunk')} in {_count(windows, 'window')}"
        lines.append(f"- event time: {_iso(min(starts))} to {_iso(end_ms)}")
    if len(chain) > 1:
        new = [entry.reference.rows - entry.first_row for entry in version.lineage if entry.first_row != UNKNOWN_ROW]
        lines.append(f"- parent: {chain[-2].task}@{chain[-2].version}; since that {_count(sum(new), 'row')}")
    lines.append(f"- each chunk by name: `headrace policy show {version.task}@{version.version} --json`")
    return lines


def _judged(version: PolicyVersion, decisions: Sequence[ServingPolicy]) -> list[str]:
    lines = [f"- verdict: {version.reason} ({'promoted' if version.promoted else 'not promoted'} by learn)"]
    kind = "discounted return" if version.by_data else "return"
    if version.difference:
        opponent = OPPONENTS[opponent_of(version.evaluation)]
        lines.append(f"- {kind} less that of {opponent}: {_interval(version.difference, level_of(version))}")
    lines += [f"- mean {kind} of {name}: {value:.3f}" for name, value in version.evaluation.items()]
    lines += [f"- outcomes of {name}: {told}" for name, told in outcomes_told(version)]
    if not version.evaluation and not version.difference:
        lines.append("- nothing was measured of it: whether it is better than chance is not known from this record")
    own = [one for one in decisions if one.version == version.version]
    return lines + [f"- {_iso(one.ts)}, by {one.decided_by}: {one.reason}" for one in own]


def outcomes_told(version: PolicyVersion) -> Iterator[tuple[str, str]]:
    """Yield whose outcomes the gate measured, and what they were."""
    for name, values in (version.outcomes or {}).items():
        yield name, ", ".join(f"{outcome} {value:.4g}" for outcome, value in values.items())


def _shape(spec: TaskSpec | None, kind: str) -> list[str]:
    if spec is None:
        return ["- its task was never added to the log: observations and actions have no names"]
    lines = [f"- observations, float32, in this order: {', '.join(spec.observations)}"]
    if (box := spec.action_bounds) is not None:
        bounds = zip(box.low, box.high, strict=True)
        return [*lines, "- actions, float32: " + ", ".join(f"{low:g} to {high:g}" for low, high in bounds)]
    assert isinstance(spec.actions, tuple)
    scores = {"values": "values of the actions, of which only differences mean something", "softmax": "logits"}[kind]
    named = ", ".join(name if name == str(i) else f"{i} ({name})" for i, name in enumerate(spec.actions))
    return [*lines, f"- actions, by number: {named}", f"- scores: {scores}"]


def _limits(version: PolicyVersion, kind: str) -> list[str]:
    lines = [
        "- It was learned from the rows above. Of situations unlike those it knows nothing, and does not say so.",
        "- A better mean return says nothing of the worst case.",
    ]
    if kind in {"softmax", "normal"}:
        lines.append(
            "- The file gives its best action. Agents that explore draw from its distribution, and do less well."
        )
    if not version.complete:
        lines.append("- Rows were lost before it was trained: it can't be retrained from its lineage.")
    return lines


def _interval(found: Interval, level: float | None) -> str:
    percent = "" if level is None else f"{100.0 * level:.6g} %: "
    return f"{found.mean:+.3f} ({percent}{found.low:+.3f} to {found.high:+.3f})"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
