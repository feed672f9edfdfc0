"""Fine-tuning by a service that speaks OpenAI's protocol: two files go up, a job begins, and one day has a model.

Each call is bounded; a job may take hours, so that its id is all that is held between two of them.
"""

from pathlib import Path
from typing import Final, NamedTuple

from headrace.sinks.openai.client import OpenAIClient

UPLOAD_S: Final = 600.0
CALL_S: Final = 30.0
OVER: Final = frozenset({"succeeded", "failed", "cancelled"})


class JobState(NamedTuple):
    """status: the service's word; over once it is one of OVER. model: once it succeeded. error: why it failed."""

    job: str
    status: str
    model: str = ""
    error: str = ""


def start(client: OpenAIClient, train: Path, held_out: Path, seed: int) -> JobState:
    """Upload both files and begin a job; raises as `OpenAIClient.ask` does."""
    ids = [_uploaded(client, path) for path in (train, held_out)]
    job = client.call(
        lambda service: service.fine_tuning.jobs.create(
            model=client.settings.model, training_file=ids[0], validation_file=ids[1], seed=seed
        ),
        CALL_S,
    )
    return JobState(job.id, job.status)


def _uploaded(client: OpenAIClient, path: Path) -> str:
    return client.call(lambda service: service.files.create(file=path, purpose="fine-tune"), UPLOAD_S).id


def state(client: OpenAIClient, job: str) -> JobState:
    """Return how a job stands; raises as `OpenAIClient.ask` does."""
    found = client.call(lambda service: service.fine_tuning.jobs.retrieve(job), CALL_S)
    error = found.error.code or found.error.message or "" if found.error else ""
    return JobState(found.id, found.status, found.fine_tuned_model or "", error)
