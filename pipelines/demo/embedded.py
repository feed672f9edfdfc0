"""The whole stream in one process, in lock-step: a window from the fleet, then ingest, then learn, then explain.

Nothing in it depends on time, so a seed gives the same rows, the same policies and the same reports.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch

from headrace.learners.cloud import EPISODE_STEPS
from headrace.learners.stream.algorithms import algorithm
from headrace.learners.stream.exploring import Exploration
from headrace.learners.stream.training import Config, LearnSettings
from headrace.pipelines.explain import job as explain
from headrace.pipelines.fleet.job import VirtualClock
from headrace.pipelines.ingest import job as ingest
from headrace.pipelines.learn import job as learn
from headrace.pipelines.runtime.flow import run
from headrace.pipelines.runtime.stop import StoppedError
from headrace.pipelines.wiring import Services, compose_explain, compose_fleet, compose_ingest, compose_learn

EXPLORATION_END: Final = 0.05
"""The share of decisions at random when the run ends; of a policy that draws its actions itself there are none."""


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """How much is done. Every bound is a count of windows or rows, never a time."""

    windows: int = 60
    agents: int = 64
    seed: int = 0
    algorithm: str = "dqn"
    samples_per_row: float = 12.0
    candidate_windows: int = 3


@dataclass(frozen=True, slots=True)
class WindowProgress:
    """Where the run stands after a window. fleet_return: mean unscaled return of the window's episodes."""

    windows: int
    transitions: int
    updates: int
    serving: int | None
    fleet_return: float


def _config(settings: EmbeddedSettings, rows: int) -> Config:
    """Return what is learned by, with schedules as long as the run where the algorithm has any."""
    one = algorithm(settings.algorithm)
    return one.scheduled(rows, settings.samples_per_row) if one.scheduled else one.streamed


class Embedded:
    """The three flows and the fleet of one task, on a virtual clock."""

    def __init__(self, services: Services, clock: VirtualClock, settings: EmbeddedSettings) -> None:
        torch.set_num_threads(1)  # the learner's bits must not depend on how many cores there are
        self.settings = settings
        self.stopping = False
        self.clock = clock
        window_rows = settings.agents * EPISODE_STEPS
        rows = settings.windows * window_rows
        self.fleet = compose_fleet(
            services,
            agents=settings.agents,
            seed=settings.seed,
            start_ms=clock.now_ms,
            exploration=Exploration(end=EXPLORATION_END, steps=rows),
        )
        self.spec = self.fleet.spec
        # A constant timer: no fold is due by time, only at the end of each window.
        self.ingest = compose_ingest(services, until_caught_up=True, timer=lambda: 0.0)
        self.learn = compose_learn(
            services,
            advised=False,
            config=_config(settings, rows),
            settings=LearnSettings(
                samples_per_row=settings.samples_per_row,
                candidate_rows=settings.candidate_windows * window_rows,
                rollout_rows=window_rows,
            ),
            seed=settings.seed,
            until_caught_up=True,
        )
        self.explain = compose_explain(services, until_caught_up=True)

    def run(self) -> Iterator[WindowProgress]:
        """Go on window by window; what a window brings is done before the next one begins, unless `stop` was called."""
        for done in range(1, self.settings.windows + 1):
            try:
                fleet_return = self.fleet.emit_window(self._advance)
            except StoppedError:  # it waited for a log that is down
                return
            for step in (self._ingest, self._learn, self._explain):
                step()
                if self.stopping:
                    return
            learner = self.learn.learners[self.spec.task]
            yield WindowProgress(
                done,
                self.ingest.counts.transitions,
                learner.training.updates,
                learner.progress.serving,
                fleet_return,
            )

    def stop(self) -> None:
        """Wish for the end of `run`, cleanly: what is under way is finished as far as its flow must."""
        self.stopping = True
        for job in (self.fleet, self.ingest, self.learn, self.explain):
            job.stop.requested = True

    def close(self) -> None:
        """Leave the groups."""
        self.ingest.close()
        self.learn.close()
        self.explain.close()

    def _ingest(self) -> None:
        self.ingest.catch_up()
        run(ingest.dataflow(self.ingest), self.ingest.stop)

    def _learn(self) -> None:
        self.learn.catch_up()
        run(learn.dataflow(self.learn), self.learn.stop)

    def _explain(self) -> None:
        explain.run_until_caught_up(self.explain)

    def _advance(self, now_ms: int) -> None:
        self.clock.now_ms = max(self.clock.now_ms, now_ms)
