"""A study's runs in Parquet: a file a run, a row a file, each there whole or not at all."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, get_args, get_type_hints

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.pipelines.study.run import Run
from headrace.schemas.errors import CorruptDataError, SettingsError

FOLDER: Final = "runs"
DESIGN: Final = "design.json"
MERGED: Final = "runs.parquet"
_COLUMNS: Final = {str: pa.string(), int: pa.int64(), float: pa.float64()}

S = TypeVar("S", bound=msgspec.Struct)


def schema_of(kind: type[msgspec.Struct]) -> pa.Schema:
    """Return the columns of a record of texts, numbers and lists of these."""
    return pa.schema(
        (name, pa.list_(_COLUMNS[get_args(hint)[0]]) if get_args(hint) else _COLUMNS[hint])
        for name, hint in get_type_hints(kind).items()
    )


def path_of(folder: Path, arm: str, seed: int) -> Path:
    """Return the file of an arm with a seed."""
    return folder / f"{arm}.{seed}.parquet"


def write(folder: Path, run: Run) -> None:
    """Store a run, at once and for good."""
    write_rows(path_of(folder / FOLDER, run.arm, run.seed), Run, [run])


def write_merged(path: Path, runs: Sequence[Run]) -> None:
    """Store all runs in one file."""
    write_rows(path, Run, sorted(runs, key=lambda run: (run.arm, run.seed)))


def read(folder: Path) -> list[Run]:
    """Return the runs in a folder, of a study or a merged one; raises SettingsError without any, CorruptDataError."""
    paths = sorted((folder / FOLDER).glob("*.parquet")) or [path for path in [folder / MERGED] if path.exists()]
    if not paths:
        raise SettingsError(f"no runs of a study in {folder}: `headrace study run --out {folder}` makes them")
    return [run for path in paths for run in rows_of(path, Run)]


def one(folder: Path, arm: str, seed: int) -> Run:
    """Return a run; raises CorruptDataError."""
    (run,) = rows_of(path_of(folder / FOLDER, arm, seed), Run)
    return run


def finished(folder: Path, arm: str, seed: int, fingerprint: str) -> bool:
    """Say whether a run is there; raises SettingsError if it is one of another design."""
    path = path_of(folder / FOLDER, arm, seed)
    if not path.exists():
        return False
    run = one(folder, arm, seed)
    if run.fingerprint != fingerprint:
        raise SettingsError(
            f"{path} is of another design ({run.fingerprint}, not {fingerprint}: other steps, settings or traces): "
            "give another --out, or remove it"
        )
    return True


def read_design(folder: Path) -> dict[str, Any]:
    """Return what the runs are runs of, by arm; raises SettingsError, CorruptDataError."""
    path = folder / DESIGN
    if not path.exists():
        raise SettingsError(f"{path} is missing: it says what the runs are; `headrace study run` writes it again")
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptDataError(f"{path} is not JSON: {error}; `headrace study run` writes it again") from error
    return found


def design_so_far(folder: Path) -> dict[str, Any]:
    """Return what the runs in a folder are runs of, by arm, empty before the first; raises CorruptDataError."""
    return read_design(folder) if (folder / DESIGN).exists() else {}


def ready(folder: Path) -> None:
    """Make the folder; raises SettingsError where it can't be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"no permission to write into {folder}")
    except OSError as error:
        raise SettingsError(f"{folder} can't be written ({error}): name another folder by --out") from error


def write_design(folder: Path, designs: Mapping[str, Any]) -> None:
    """Say beside the runs what they are runs of."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(designs, indent=1, sort_keys=True) + "\n"
    _replace(folder / DESIGN, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


def write_rows(path: Path, kind: type[S], rows: Iterable[S]) -> None:
    """Store records, all or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([msgspec.to_builtins(row) for row in rows], schema=schema_of(kind))
    _replace(path, lambda unfinished: pq.write_table(table, unfinished, compression="zstd"))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Put a whole file there, or none."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    write(unfinished)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def rows_of(path: Path, kind: type[S]) -> list[S]:
    """Return the records of a file; raises CorruptDataError."""
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, partitioning=None).to_pylist()
        return [msgspec.convert(row, kind) for row in rows]
    except (pa.ArrowException, OSError, msgspec.ValidationError) as error:
        raise CorruptDataError(f"{path} is no run of a study: {error}; remove it, and run the study again") from error
