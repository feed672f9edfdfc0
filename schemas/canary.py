"""A canary: a version that a share of the agents tries, and which agents these are."""

from typing import Annotated

from msgspec import Meta, Struct

from headrace.schemas.partition import murmur2


class Canary(Struct, frozen=True):
    """A version that a share of the agents tries, while the others act by what serves.

    share: of the agents, above 0 and at most a half. windows: after so many it is to end; 0 for when
    somebody says so.
    promote: whether it serves all agents once its returns are shown to be better.
    """

    version: int
    weights_hash: str
    share: Annotated[float, Meta(gt=0, le=0.5)]
    windows: Annotated[int, Meta(ge=0)] = 0
    promote: bool = False


def in_share(canary: Canary, task: str, agent_id: str) -> bool:
    """Whether an agent belongs to a canary's share: murmur2 of "TASK@VERSION/AGENT", as a part of 2^32, lies below it.

    The version is hashed too, so that it is not always the same agents that try. A greater share only adds agents.
    """
    return murmur2(f"{task}@{canary.version}/{agent_id}".encode()) < canary.share * 2**32
