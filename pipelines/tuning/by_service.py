"""Fine-tuning by a service: from a data set to the name of a model."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from headrace.pipelines.tuning.exported import HELD_OUT, TRAIN
from headrace.schemas.errors import LanguageModelError, SettingsError, UnavailableError
from headrace.schemas.url import Url

EVERY_S: Final = 20.0
PATIENCE: Final = 30
"""Looks in a row that may fail, the service being down, before one gives up."""


def tuned_by_service(
    url: Url,
    data: Path,
    job: str | None,
    seed: int,
    told: Callable[[str, str], None],
    *,
    every_s: float = EVERY_S,
    environ: Mapping[str, str] = os.environ,
) -> str:
    """Return the tuned model's name once the service has it. job: one begun before, to wait for; else a new one.

    told: called with the job's id and its status whenever that changes. Raises SettingsError, UnavailableError and
    LanguageModelError, of the last where the job fails.
    """
    from headrace.sinks.openai import fine_tuning  # noqa: PLC0415 a second to load
    from headrace.sinks.openai.client import open_client  # noqa: PLC0415

    files = data / TRAIN, data / HELD_OUT
    missing = [str(path) for path in files if not path.is_file()]
    if missing and job is None:
        raise SettingsError(f"{', '.join(missing)}: no such file: write it by headrace narrator export --out {data}")
    client, misses = open_client(url, environ), 0
    try:
        now = fine_tuning.state(client, job) if job else fine_tuning.start(client, *files, seed)
        told(now.job, now.status)
        while now.status not in fine_tuning.OVER:
            time.sleep(every_s)
            before = now
            try:
                now, misses = fine_tuning.state(client, now.job), 0
            except UnavailableError:
                misses += 1
                if misses == PATIENCE:
                    raise
            if now.status != before.status:
                told(now.job, now.status)
    finally:
        client.close()
    if not now.model:
        raise LanguageModelError(f"the service's job {now.job} {now.status} {now.error}".rstrip())
    return now.model
