"""What a version was judged by, where no simulator did."""

from msgspec import Struct


class DataEvidence(Struct, frozen=True):
    """The rows that judged a version. effective_rows: of them, those that show its own decisions.

    groups: of episodes or agents, the independent units.
    """

    estimator: str
    rows: int
    effective_rows: float
    groups: int
