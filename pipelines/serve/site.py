"""What the routes have at hand: the services, the view, and answers that stay the same for a while."""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from headrace.learners.explain.studied import StudiedPolicy
from headrace.pipelines.ask.answer import Asker
from headrace.pipelines.policies.control import Control
from headrace.pipelines.serve.access import Caller, Gate
from headrace.pipelines.serve.arriving import Arrivals
from headrace.pipelines.serve.deciding import Deciders
from headrace.pipelines.serve.streaming import Slots
from headrace.pipelines.serve.view import View
from headrace.pipelines.wiring import Services, compose_ask
from headrace.schemas.errors import HeadraceError, UnavailableError, UnknownTaskError
from headrace.schemas.reasons import did_you_mean
from headrace.schemas.records import TaskSpec

Told = TypeVar("Told")
MOST_ANSWERS: Final = 512
MOST_ANSWER_BYTES: Final = 1 << 20
MOST_STREAMS, MOST_QUESTIONS = 64, 4
"""At a time: each holds a thread now and then, or for long."""
MOST_STUDIED: Final = 16
"""Versions that are prepared for questions; then it is begun anew."""
CLOSED_S: Final = 5.0
"""How long a part that could not be opened is not tried again: a driver's own waiting would hold a thread each."""


class Answers:
    """Encoded answers by name, each good as long as the state that it was made of; the ones used last are kept."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, tuple[object, bytes]] = OrderedDict()
        self._making: dict[object, asyncio.Future[bytes]] = {}
        self._lock = threading.Lock()

    def get(self, name: object, state: object, make: Callable[[], bytes]) -> bytes:
        """Return the answer that was made of this state, or make it."""
        with self._lock:
            known = self._kept.get(name)
            if known is not None and known[0] == state:
                self._kept.move_to_end(name)
                return known[1]
        return self._keep(name, state, make())

    async def soon(self, name: object, state: object, make: Callable[[], bytes]) -> bytes:
        """As `get`, on the event loop: a thread makes it, and who asks for the same meanwhile waits for it too."""
        known = self._kept.get(name)
        if known is not None and known[0] == state:
            return known[1]
        making = self._making.get((name, state))
        if making is None:
            making = asyncio.ensure_future(run_in_threadpool(make))
            self._making[name, state] = making
            making.add_done_callback(lambda _: self._making.pop((name, state), None))
            return self._keep(name, state, await asyncio.shield(making))
        return await asyncio.shield(making)

    def _keep(self, name: object, state: object, made: bytes) -> bytes:
        if len(made) <= MOST_ANSWER_BYTES:
            with self._lock:
                self._kept[name] = state, made
                while len(self._kept) > MOST_ANSWERS:
                    self._kept.popitem(last=False)
        return made


@dataclass(slots=True)
class Site:
    """One for the application."""

    services: Services
    view: View
    gate: Gate
    answers: Answers = field(default_factory=Answers)
    deciders: Deciders = field(init=False)
    arrivals: Arrivals = field(init=False)
    streams: Slots = field(default_factory=lambda: Slots(MOST_STREAMS, "streams"))
    questions: Slots = field(default_factory=lambda: Slots(MOST_QUESTIONS, "questions"))
    deciding: threading.Lock = field(default_factory=threading.Lock)
    studied: dict[tuple[str, int], StudiedPolicy] = field(default_factory=dict)
    _closed: dict[str, tuple[float, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make what follows the view, and what writes to the log."""
        services = self.services
        self.deciders = Deciders(self.view, lambda: self.opened("policies"))
        self.arrivals = Arrivals(services.log, services.clock, lambda: self.opened("layout"))

    def start(self) -> None:
        """Begin to follow the log."""
        self.view.start()
        self.deciders.start()

    def close(self) -> None:
        """Follow it no more."""
        self.deciders.close()
        self.view.close()
        self.gate.store_uses()

    def opened(self, part: str) -> Any:  # noqa: ANN401 the port of that name
        """Return a part of the services; raises UnavailableError at once where it could not be opened just now."""
        at_s, trouble = self._closed.get(part, (-CLOSED_S, ""))
        if time.monotonic() - at_s < CLOSED_S:
            raise UnavailableError(trouble)
        try:
            return getattr(self.services, part)
        except HeadraceError as error:
            self._closed[part] = time.monotonic(), f"the {part} can't be reached: {error}"
            raise

    def spec(self, task: str) -> TaskSpec:
        """Return a task's spec; raises UnknownTaskError."""
        found = self.view.spec(task)
        if found is None:
            names = self.view.names()
            if self.view.trouble and not names:
                raise UnavailableError(f"the log can't be read: {self.view.trouble}")
            known = ", ".join(names[:20]) or "none yet"
            raise UnknownTaskError(f"task {task!r} was never added{did_you_mean(task, names) or ';'} known: {known}")
        return found

    def asker(self) -> Asker:
        """Return what answers questions: of now, with what was prepared of versions before."""
        if len(self.studied) > MOST_STUDIED:
            self.studied = {}
        asker = compose_ask(self.services)
        asker.ground.studied = self.studied
        return asker

    async def asked(self, ask: Callable[[Asker], Told]) -> Told:
        """Answer in a thread, a few questions at a time."""
        self.questions.take()
        try:
            return await run_in_threadpool(lambda: ask(self.asker()))
        finally:
            self.questions.give()

    def control(self, caller: Caller) -> Control:
        """Return what decides in the caller's name."""
        services = self.services
        return Control(services.log, self.opened("policies"), self.view.specs.specs, services.clock, caller.name)


async def _here(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


Here = Annotated[Site, Depends(_here)]
