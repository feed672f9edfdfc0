"""The workload: how many requests a second the users send, step by step.

Rate = base * level * day curve * regime * (1 + flash crowds) * noise. Everything here is exogenous: no
action changes it, so two policies can be compared on the same draw. The constants are frozen (DESIGN,
section 5). `draw_traces` is the only place of the environment where random numbers are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Final, NamedTuple, Self

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from headrace.learners.cloud import network

FloatArray = NDArray[np.float64]

EPISODE_STEPS: Final = 100
STEP_S: Final = 30.0
STEP_MS: Final = 30_000
LEAD_STEPS: Final = 2
"""Steps drawn before the episode: what the first two, lagged, readings are about."""

BASE_RATE_RPS: Final = 290.0
LEVEL_SIGMA: Final = 0.3
LEVEL_CLIP: Final = 0.6
DAY_STEPS: Final = 240
DAY_AMPLITUDE: Final = 0.45
RATE_SIGMA: Final = 0.06
REGIME_FACTORS: Final = (0.75, 1.0, 1.6)
REGIME_TRANSITIONS: Final = ((0.96, 0.04, 0.0), (0.02, 0.95, 0.03), (0.0, 0.08, 0.92))
REGIME_START: Final = (4 / 15, 8 / 15, 3 / 15)
"""The chain's stationary distribution: an episode starts anywhere in the service's life."""
REGIME_KEEP: Final = 0.6
FLASH_PROBABILITY: Final = 1 / 200
FLASH_AMPLITUDE: Final = (0.6, 1.6)
FLASH_RAMP_STEPS: Final = 3
FLASH_DECAY_STEPS: Final = 10.0
FLASH_LIMIT: Final = 2.0

BLOCK: Final = 16
"""Traces drawn from one generator: trace i depends on (seed, i // BLOCK), never on how many are asked."""
NOISES: Final = 4
"""Noisy readings: utilisation, rate, queue, p95."""


class Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A workload that differs from the service's own: each field is a factor, and 1 leaves all as it is.

    level: of the base rate. day: of the day curve's amplitude. noise: of the rate's noise. flash: how often flash
    crowds begin; crowd: how large they are.
    """

    level: Annotated[float, Meta(ge=0.5, le=2.0)] = 1.0
    day: Annotated[float, Meta(ge=0.0, le=2.0)] = 1.0
    noise: Annotated[float, Meta(ge=0.0, le=3.0)] = 1.0
    flash: Annotated[float, Meta(ge=0.1, le=8.0)] = 1.0
    crowd: Annotated[float, Meta(ge=0.0, le=2.0)] = 1.0


class _Factors(NamedTuple):
    """The fields of loads, float64[N] each."""

    level: FloatArray
    day: FloatArray
    noise: FloatArray
    flash: FloatArray
    crowd: FloatArray


@dataclass(frozen=True, slots=True)
class Traces:
    """Everything random about N episodes of T steps, drawn at reset.

    Columns are steps: column LEAD_STEPS + t is the episode's step t, and the LEAD_STEPS columns before it
    are the recent past. C = T + LEAD_STEPS.
    """

    rate_rps: FloatArray  # [N, C], the expected rate lambda, requests a second
    requests: NDArray[np.int64]  # [N, C], Poisson counts of a step of 30 s
    rtt_s: FloatArray  # [N, C], round-trip time, seconds
    loss: FloatArray  # [N, C], share of requests sent again
    arrivals_rps: FloatArray  # [N, C], what reaches the service: (requests / 30 s) * (1 + loss)
    phase: FloatArray  # [N], time of day at step 0, in days, 0-1
    noise: FloatArray  # [N, C, NOISES], standard normal draws behind the noisy readings

    def __len__(self) -> int:
        return len(self.phase)

    @property
    def steps(self) -> int:
        """Steps of the episode, T."""
        return int(self.rate_rps.shape[1]) - LEAD_STEPS

    def take(self, rows: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """The traces of some rows."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def time_of_day(phase: FloatArray, columns: int) -> FloatArray:
    """Time of day of each column, in days (not wrapped). phase: float64[N] -> float64[N, columns]."""
    steps = np.arange(columns) - LEAD_STEPS
    days: FloatArray = phase[:, None] + steps / DAY_STEPS
    return days


def level(normals: FloatArray) -> FloatArray:
    """An episode's level: lognormal, clipped in the logarithm, mean-corrected as if it were not."""
    clipped = np.clip(LEVEL_SIGMA * normals, -LEVEL_CLIP, LEVEL_CLIP)
    return np.exp(clipped - 0.5 * LEVEL_SIGMA**2)


def regime_factors(uniforms: FloatArray) -> FloatArray:
    """The hidden regime's factor, smoothed: a chain of three states driven by uniforms float64[N, C]."""
    start = np.cumsum(REGIME_START)[:-1]
    bounds = np.cumsum(REGIME_TRANSITIONS, axis=1)[:, :-1]
    values = np.array(REGIME_FACTORS)
    factors = np.empty_like(uniforms)
    regime = (uniforms[:, 0, None] >= start).sum(axis=1)
    factors[:, 0] = values[regime]
    for step in range(1, uniforms.shape[1]):
        regime = (uniforms[:, step, None] >= bounds[regime]).sum(axis=1)
        factors[:, step] = REGIME_KEEP * factors[:, step - 1] + (1 - REGIME_KEEP) * values[regime]
    return factors


def flash_profile(columns: int) -> FloatArray:
    """One flash crowd of amplitude 1 from its first step on: 1/3, 2/3, 1, e^-.1, e^-.2, ..."""
    steps = np.arange(columns)
    ramp = (steps + 1) / FLASH_RAMP_STEPS
    decay = np.exp(-(steps - (FLASH_RAMP_STEPS - 1)) / FLASH_DECAY_STEPS)
    return np.where(steps < FLASH_RAMP_STEPS, ramp, decay)


def flash_crowds(starts: FloatArray, amplitudes: FloatArray) -> FloatArray:
    """The sum of all flash crowds. starts: uniforms float64[N, C], below 1/200 where one begins."""
    crowds = np.zeros_like(starts)
    profile = flash_profile(starts.shape[1])
    for row, column in np.argwhere(starts < FLASH_PROBABILITY):
        crowds[row, column:] += amplitudes[row, column] * profile[: starts.shape[1] - column]
    return crowds


def rate_rps(
    levels: FloatArray,
    days: FloatArray,
    regime: FloatArray,
    crowds: FloatArray,
    noise: FloatArray,
    day: FloatArray | float = 1.0,
) -> FloatArray:
    """The expected rate lambda, requests a second: float64[N, C]; levels is float64[N].

    day: float64[N, 1], a factor of the day curve's amplitude.
    """
    day_curve = 1 + DAY_AMPLITUDE * day * np.sin(2 * np.pi * days)
    crowd_factor = 1 + np.minimum(crowds, FLASH_LIMIT)
    rate: FloatArray = BASE_RATE_RPS * levels[:, None] * day_curve * regime * crowd_factor * np.exp(RATE_SIGMA * noise)
    return rate


class _Draws(NamedTuple):
    """Raw draws of some traces."""

    once: FloatArray  # [N, 2], normal
    phase: FloatArray  # [N]
    normals: FloatArray  # [N, C, 2 + NOISES]
    uniforms: FloatArray  # [N, C, 3]


def _draw_block(generator: np.random.Generator, columns: int) -> _Draws:
    return _Draws(
        once=generator.standard_normal((BLOCK, 2)),
        phase=generator.random(BLOCK),
        normals=generator.standard_normal((BLOCK, columns, 2 + NOISES)),
        uniforms=generator.random((BLOCK, columns, 3)),
    )


def _rates(draws: _Draws, load: _Factors) -> FloatArray:
    low, high = FLASH_AMPLITUDE
    crowds = flash_crowds(draws.uniforms[:, :, 1] / load.flash[:, None], low + (high - low) * draws.uniforms[:, :, 2])
    return rate_rps(
        level(draws.once[:, 0]) * load.level,
        time_of_day(draws.phase, draws.normals.shape[1]),
        regime_factors(draws.uniforms[:, :, 0]),
        crowds * load.crowd[:, None],
        draws.normals[:, :, 0] * load.noise[:, None],
        load.day[:, None],
    )


def draw_traces(seed: int, count: int, steps: int = EPISODE_STEPS, loads: Sequence[Load] = ()) -> Traces:
    """Draw `count` episodes; trace i depends on seed, steps, i and its load only. Raises ValueError for none.

    loads: of each episode, to train on; without any, all have the service's own.

    The same bytes on the same machine and NumPy; elsewhere the last bit of an exp or sin can differ.
    """
    if count < 1 or steps < 1:
        raise ValueError(f"draw_traces: count={count} and steps={steps} must both be at least 1")
    blocks = -(-count // BLOCK)
    generators = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(blocks)]
    drawn = [_draw_block(generator, steps + LEAD_STEPS) for generator in generators]
    draws = _Draws(*(np.concatenate(column) for column in zip(*drawn, strict=True)))
    all_loads = [*loads, *[Load()] * (blocks * BLOCK - len(loads))]
    rates = _rates(draws, _Factors(*np.array([msgspec.structs.astuple(one) for one in all_loads]).T))
    # Last from each generator, because how many numbers a Poisson draw takes depends on its mean.
    blocks_of_rates = np.split(rates * STEP_S, blocks)
    requests = np.concatenate([each.poisson(block) for each, block in zip(generators, blocks_of_rates, strict=True)])
    return _assemble(_Draws(*(column[:count] for column in draws)), rates[:count], requests[:count])


def _assemble(draws: _Draws, rates: FloatArray, requests: NDArray[np.int64]) -> Traces:
    traffic = network.cross_traffic(draws.once[:, 1], draws.normals[:, :, 1])
    rho = network.link_utilisation(traffic, rates)
    loss = network.loss_share(rho)
    return Traces(
        rate_rps=rates,
        requests=requests,
        rtt_s=network.round_trip_s(rho),
        loss=loss,
        arrivals_rps=requests / STEP_S * (1 + loss),
        phase=draws.phase,
        noise=np.ascontiguousarray(draws.normals[:, :, 2:]),
    )
