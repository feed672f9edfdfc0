"""A change of how a task is learned."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

DirectiveVerdict = Literal["proposed", "approve", "accepted", "refused", "undo", "undone"]
DIRECTIVE_PATTERN = r"^[A-Za-z0-9._-]{1,96}$"


class Directive(Struct, frozen=True):
    """A bounded change that an advisor proposed, its verdict and who decided.

    directive_id: TASK.VERSION.N. change, target: what is changed (docs/architecture.md lists them). value: what it
    becomes, for the rows learned after `version`; previous: what it was. verdict: "proposed" changes nothing (the
    advisor only logs). "approve" and "undo" are what people ask for; "accepted" or "refused", and "undone", say what
    came of it. The last record of an id is what holds.
    text: of the change "setting", which people make of a learner's setting (`target`), its value as JSON.
    """

    directive_id: Annotated[str, Meta(pattern=DIRECTIVE_PATTERN)]
    task: str
    change: str
    value: float
    proposed_by: str
    verdict: DirectiveVerdict
    decided_by: str
    reason: str
    ts: int
    target: str = ""
    previous: float | None = None
    version: int = 0
    text: str = ""
    schema_version: Literal[1] = 1
