"""The one composition root: Settings -> open services, closed in reverse; and the jobs, each put together.

A new backend is one file in sinks and one name in ADAPTERS.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headrace.pipelines import layout
from headrace.pipelines.settings import Settings, suggest
from headrace.pipelines.tasks import TaskTable, add_task, task_specs
from headrace.schemas.access import TokenStore
from headrace.schemas.errors import SettingsError
from headrace.schemas.ports import (
    ANY_OPTION,
    Adapter,
    Advisor,
    Cache,
    Clock,
    Index,
    Log,
    Mailer,
    Narrator,
    PolicyStore,
)
from headrace.schemas.records import Layout
from headrace.schemas.url import Url
from headrace.sinks.chunks import CachedChunks

if TYPE_CHECKING:
    from headrace.pipelines.ask.answer import Asker
    from headrace.pipelines.explain.job import Explainer
    from headrace.pipelines.fleet.job import Fleet
    from headrace.pipelines.ingest.job import Ingest
    from headrace.pipelines.learn.job import Learn
    from headrace.pipelines.report.compose import Envelope
    from headrace.pipelines.report.job import Digest
    from headrace.schemas.records import Subscriber

ADAPTERS: Final[dict[str, dict[str, str]]] = {
    "log": {
        "sqlite": "headrace.sinks.sqlite.log:ADAPTER",
        "kafka": "headrace.sinks.kafka.adapter:ADAPTER",
    },
    "index": {
        "sqlite": "headrace.sinks.sqlite.index:ADAPTER",
        "cassandra": "headrace.sinks.cassandra.adapter:INDEX",
    },
    "cache": {
        "memory": "headrace.sinks.memory:ADAPTER",
        "redis": "headrace.sinks.redis.adapter:PLAIN",
        "rediss": "headrace.sinks.redis.adapter:TLS",
    },
    "policies": {
        "file": "headrace.sinks.files.policies:ADAPTER",
        "cassandra": "headrace.sinks.cassandra.adapter:POLICIES",
    },
    "tokens": {"sqlite": "headrace.sinks.sqlite.tokens:ADAPTER"},
    "mail": {
        "file": "headrace.sinks.files.mail:ADAPTER",
        "smtp": "headrace.sinks.smtp.mailer:ADAPTER",
        "smtps": "headrace.sinks.smtp.mailer:ADAPTER",
    },
    "narrator": {
        "template": "headrace.learners.explain.template:ADAPTER",
        "openai": "headrace.sinks.openai.narrator:ADAPTER",
    },
    "advisor": {
        "none": "headrace.schemas.ports:NOTHING",
        "rules": "headrace.learners.advice.rules:ADAPTER",
        "openai": "headrace.sinks.openai.advisor:ADAPTER",
    },
}
"""Setting -> URL scheme -> where its adapter is. Reading an adapter loads no slow driver; opening it does."""


def system_clock() -> int:
    """Return the machine's time in ms."""
    return time.time_ns() // 1_000_000


class Services:
    """The ports, each opened when it is first used: a job needs only its own backends to be up."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock = system_clock,
        *,
        create: bool = False,
        parts: Iterable[str] = tuple(ADAPTERS),
    ) -> None:
        """parts: those that may be used; the others' adapters are neither checked nor loaded."""
        self.settings = settings
        self.clock = clock
        self._create = create
        self._stack = ExitStack()
        self.adapters = {part: _adapter(part, getattr(settings, part)) for part in parts}

    log = cached_property[Log](lambda self: self._open("log"))
    index = cached_property[Index](lambda self: self._open("index"))
    cache = cached_property[Cache](lambda self: self._open("cache"))
    policies = cached_property[PolicyStore](lambda self: self._open("policies"))
    tokens = cached_property[TokenStore](lambda self: self._open("tokens"))
    mailer = cached_property[Mailer](lambda self: self._open("mail"))
    advisor = cached_property[Advisor | None](lambda self: self._open("advisor"))  # None where nobody advises

    @cached_property
    def narrator(self) -> Narrator:
        """Who writes the sentences of reports: the template, or a language model that is never believed."""
        from headrace.pipelines.narrating.narrator import narrating

        return narrating(self._open("narrator"), self.clock)

    @cached_property
    def chunks(self) -> CachedChunks:
        """The index's chunks, read through the cache."""
        return CachedChunks(self.index, self.cache)

    @cached_property
    def layout(self) -> Layout:
        """The index's layout; raises as `stored_layout` does."""
        return layout.stored_layout(self.log, self.index, self.settings)

    @cached_property
    def sound_layout(self) -> Layout:
        """The layout, for a job: raises as `require_sound` does as well."""
        layout.require_sound(self.log, self.layout)
        return self.layout

    def initialise(self, **wanted: int | None) -> Layout:
        """Make topics, layout and policy store; raises as `layout.initialise` does."""
        found = layout.initialise(self.log, self.index, self.settings, **wanted)
        _ = self.policies  # opened to be made: it may have a keyspace of its own
        return found

    def _open(self, part: str) -> Any:  # noqa: ANN401
        url: Url = getattr(self.settings, part)
        adapter = self.adapters[part]
        if adapter.made_by_init and not self._create and not Path(url.path).exists():
            raise SettingsError(
                f"the {part} {url} does not exist: create it with `headrace init`, or name another by --{part}"
            )
        try:
            opened = adapter.open(url, self.clock, self._create)
        except ModuleNotFoundError as missing:
            raise SettingsError(
                f"a {part} at {url.scheme}: needs a driver: pip install '{adapter.driver}' ({missing})"
            ) from missing
        if opened is not None:
            self._stack.callback(opened.close)
        return opened

    def close(self) -> None:
        """Close what was opened, in reverse."""
        self._stack.close()


@contextmanager
def open_services(settings: Settings, clock: Clock = system_clock, *, create: bool = False) -> Iterator[Services]:
    """Give the services of the settings; raises SettingsError for a URL that can't be used, before any is opened.

    create: whether a log or index that does not exist is made; else it is an error, as it is almost always the
    wrong folder or a misspelt path.
    """
    with closing(Services(settings, clock, create=create)) as services:
        yield services


def _adapter(part: str, url: Url) -> Adapter:
    """Return the URL's adapter, its scheme and options checked."""
    schemes = ADAPTERS[part]
    if url.scheme not in schemes:
        raise SettingsError(f"--{part} {url}: unknown scheme {url.scheme!r}{suggest(url.scheme, list(schemes))}")
    adapter: Adapter = resolve_name(schemes[url.scheme])
    for option in url.options:
        if option not in adapter.options and adapter.options != ANY_OPTION:
            known = suggest(option, list(adapter.options)) if adapter.options else "; it has none"
            raise SettingsError(f"--{part} {url}: unknown option {option!r}{known}")
    if adapter.local and (not url.path or url.host not in {"", "localhost"}):
        raise SettingsError(f"--{part} {url}: write {url.scheme}:relative/path or {url.scheme}:///absolute/path")
    return adapter


# Each job put together: `options` are its constructor's. A job's module is loaded when it is composed: ingest and the
# fleet need no torch.
# ruff: noqa: PLC0415


def compose_ingest(services: Services, **options: Any) -> "Ingest":  # noqa: ANN401
    """Put `ingest` together; raises as `services.layout` does."""
    from headrace.pipelines.ingest.job import Ingest

    return Ingest(services.log, services.index, services.cache, services.sound_layout, **options)


def compose_learn(
    services: Services,
    *,
    advised: bool = True,
    until_caught_up: bool = False,
    only: Sequence[str] = (),
    from_start: bool = False,
    **options: Any,  # noqa: ANN401
) -> "Learn":
    """Put `learn` together; raises as `services.layout` does. advised: by the setting's advisor, if it names one.

    only, from_start: as `Learn` has them.
    """
    from headrace.pipelines.learn.advice import Advising, advising
    from headrace.pipelines.learn.job import Learn
    from headrace.pipelines.learn.learner import Learning

    advice = advising(services.advisor, services.settings.advisor.options) if advised else Advising()
    tasks, learning = TaskTable(services.log, services.sound_layout), Learning(advising=advice, **options)
    stores = (services.chunks, services.policies)
    return Learn(
        *(services.log, *stores, tasks, services.clock, learning),
        only=only,
        from_start=from_start,
        until_caught_up=until_caught_up,
    )


def compose_explain(services: Services, **options: Any) -> "Explainer":  # noqa: ANN401
    """Put `explain` together; raises as `services.layout` does."""
    from headrace.pipelines.explain.job import Explainer

    tasks = TaskTable(services.log, services.sound_layout)
    return Explainer(services.log, services.policies, services.chunks, tasks, services.narrator, **options)


def compose_digest(services: Services, envelope: "Envelope", **options: Any) -> "Digest":  # noqa: ANN401
    """Put `digest` together."""
    from headrace.pipelines.report.job import Digest

    key = services.settings.digest_key.text
    return Digest(services.log, services.mailer, services.clock, envelope, key=key, **options)


def subscriber_of(services: Services, token: str) -> "Subscriber":
    """Return the subscriber that a link's token is for, and change nothing; raises InvalidTokenError."""
    from headrace.pipelines.report import subscribers

    return subscribers.subscriber_of(services.log, services.settings.digest_key.text, token)


def unsubscribe(services: Services, token: str) -> "Subscriber":
    """End the subscriber that a link's token is for; a second time changes nothing. Raises InvalidTokenError."""
    from headrace.pipelines.report import subscribers

    return subscribers.unsubscribe(services.log, services.clock, services.settings.digest_key.text, token)


def compose_ask(services: Services) -> "Asker":
    """Put together what answers questions."""
    from headrace.pipelines.ask.answer import Asker
    from headrace.pipelines.ask.ground import Ground

    return Asker(Ground(services.log, services.index, services.chunks, services.policies), services.narrator)


def compose_fleet(services: Services, **options: Any) -> "Fleet":  # noqa: ANN401
    """Put the fleet together, and add its task; raises as `services.layout` does."""
    from headrace.pipelines.fleet.job import Fleet, cloud_task

    spec, found = cloud_task(), services.sound_layout
    present = task_specs(services.log).get(spec.task)
    if present == msgspec.structs.replace(spec, outcomes=()):  # of before there were outcomes; a task never changes
        spec = present
    add_task(services.log, spec)
    return Fleet(services.log, services.policies, spec, found, **options)
