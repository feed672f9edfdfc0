"""The network between the users and the service: round-trip time and loss under cross traffic.

A first-order model: other people's traffic wanders around a mean, the service's own adds to it, and the
shared link queues like M/M/1. All functions are pure. The constants are frozen (DESIGN, section 5).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

TRAFFIC_MEAN: Final = 0.45
TRAFFIC_KEEP: Final = 0.95
TRAFFIC_SIGMA: Final = 0.05
TRAFFIC_START_SIGMA: Final = TRAFFIC_SIGMA / (1 - TRAFFIC_KEEP**2) ** 0.5
"""The stationary deviation, .16: an episode starts anywhere in the link's life."""
OWN_SHARE: Final = 0.35
OWN_RATE_RPS: Final = 1200.0
RHO_LIMITS: Final = (0.05, 0.97)
PROPAGATION_S: Final = 0.015
QUEUEING_S: Final = 0.006
LOSS_SLOPE: Final = 0.4
LOSS_ABOVE: Final = 0.85


def cross_traffic(start: FloatArray, shocks: FloatArray) -> FloatArray:
    """Other people's share of the link, not clipped: an AR(1) process float64[N, C] around .45.

    start, shocks: float64[N], float64[N, C], standard normal; the first column of shocks is not used.
    """
    traffic = np.empty_like(shocks)
    traffic[:, 0] = TRAFFIC_MEAN + TRAFFIC_START_SIGMA * start
    for step in range(1, shocks.shape[1]):
        kept = TRAFFIC_MEAN + TRAFFIC_KEEP * (traffic[:, step - 1] - TRAFFIC_MEAN)
        traffic[:, step] = kept + TRAFFIC_SIGMA * shocks[:, step]
    return traffic


def link_utilisation(traffic: FloatArray, rate_rps: FloatArray) -> FloatArray:
    """Share of the link in use, .05-.97, from cross traffic and the service's own expected rate."""
    low, high = RHO_LIMITS
    rho: FloatArray = np.clip(traffic + OWN_SHARE * rate_rps / OWN_RATE_RPS, low, high)
    return rho


def round_trip_s(rho: FloatArray) -> FloatArray:
    """Round-trip time in seconds: propagation plus M/M/1 queueing on the link."""
    round_trip: FloatArray = PROPAGATION_S + QUEUEING_S * rho / (1 - rho)
    return round_trip


def loss_share(rho: FloatArray) -> FloatArray:
    """Share of requests lost on the way, and sent again: they arrive on top."""
    loss: FloatArray = LOSS_SLOPE * np.maximum(0.0, rho - LOSS_ABOVE)
    return loss
