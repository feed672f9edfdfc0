"""How a task's learning stands, in a sentence: what its versions tell."""

from collections.abc import Sequence

from headrace.schemas.records import PolicyVersion


def refusals_told(versions: Sequence[PolicyVersion]) -> str | None:
    """Say how many candidates in a row were refused, None where the newest was not. versions: of one task, in order."""
    learned = [version for version in versions if version.config.get("source") != "simulation"]
    count = learned[-1].refusals if learned else 0
    if not count:
        return None
    back = [version.went_back_to for version in learned[-count:] if version.went_back_to is not None]
    gone = f"; learning went on from the weights of {learned[-1].task}@{back[-1]}" if back else ""
    return f"{_candidates(count)} not better{gone}"


def _candidates(count: int) -> str:
    return "the newest candidate was" if count == 1 else f"{count} candidates in a row were"
