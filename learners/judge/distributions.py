"""The distributions of the tests: functions of SciPy's, which loads at the first call.

It takes half a second to load, and none of a job's start needs it.
"""

from typing import Any


def t_below(freedom: float, statistic: float) -> float:
    """Return the probability that Student's t of so many degrees of freedom lies below."""
    from scipy.special import stdtr  # noqa: PLC0415 see above

    return float(stdtr(freedom, statistic))


def t_quantile(freedom: float, probability: float) -> float:
    """Return what Student's t lies below with that probability: scipy.stats' `t.ppf` calls the same function."""
    from scipy.special import stdtrit  # noqa: PLC0415 see above

    return float(stdtrit(freedom, probability))


def normal_below(value: Any) -> Any:  # noqa: ANN401 a number or an array
    """Return the probability that a standard normal lies below, of each value."""
    from scipy.special import ndtr  # noqa: PLC0415 see above

    return ndtr(value)


def normal_quantile(probability: float) -> float:
    """Return what a standard normal lies below with that probability."""
    from scipy.special import ndtri  # noqa: PLC0415 see above

    return float(ndtri(probability))
