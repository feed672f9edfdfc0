"""What a version was judged on: enough to compute its verdict again."""

from msgspec import Struct


class Judgement(Struct, frozen=True):
    """How the gate compared a candidate with its opponent.

    opponent: the version that served, 0 for the floor baseline. number: the candidate's place among those that met
    this opponent. alpha: the error that it might spend, one-sided; the record's interval has level 1 - 2 alpha. seed:
    of the fresh traces, of which there were `traces`; taken: so many were needed, the first ones.
    """

    opponent: int
    number: int
    alpha: float
    seed: int
    traces: int
    taken: int
