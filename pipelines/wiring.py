"""The one composition root: Settings -> open services, closed in reverse; the layout that binds them; the jobs.

A new backend is one file in sinks and one name in ADAPTERS.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from headrace.pipelines.settings import Settings, suggest
from headrace.pipelines.tasks import TaskTable, add_task
from headrace.pipelines.topics import PARTITIONED, SINGLE, TRANSITIONS
from headrace.schemas.errors import LayoutMismatchError, SettingsError, UnknownTopicError
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
    TopicInfo,
)
from headrace.schemas.records import Layout
from headrace.schemas.url import Url
from headrace.sinks.chunks import CachedChunks

if TYPE_CHECKING:
    from headrace.pipelines.explain.job import Explainer
    from headrace.pipelines.fleet.job import Fleet
    from headrace.pipelines.ingest.job import Ingest
    from headrace.pipelines.learn.job import Learn
    from headrace.pipelines.report.compose import Envelope
    from headrace.pipelines.report.job import Digest

DEFAULT_PARTITIONS: Final = 4
ADAPTERS: Final[dict[str, dict[str, str]]] = {
    "log": {
        "sqlite": "headrace.sinks.sqlite.log:ADAPTER",
        "kafka": "headrace.sinks.kafka.target:ADAPTER",
    },
    "index": {
        "sqlite": "headrace.sinks.sqlite.index:ADAPTER",
        "cassandra": "headrace.sinks.cassandra.target:INDEX",
    },
    "cache": {
        "memory": "headrace.sinks.memory:ADAPTER",
        "redis": "headrace.sinks.redis.target:PLAIN",
        "rediss": "headrace.sinks.redis.target:TLS",
    },
    "policies": {
        "file": "headrace.sinks.files.policies:ADAPTER",
        "cassandra": "headrace.sinks.cassandra.target:POLICIES",
    },
    "mail": {"file": "headrace.sinks.files.mail:ADAPTER"},
    "narrator": {"template": "headrace.learners.explain.template:ADAPTER"},
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
    """The ports, each opened when it is first used: a job needs only its own backends to be up.

    Use it as a context manager; it closes what it opened, in reverse.
    """

    def __init__(self, settings: Settings, clock: Clock = system_clock, *, create: bool = False) -> None:
        self.settings = settings
        self.clock = clock
        self._create = create
        self._stack = ExitStack()
        self.adapters = {part: _adapter(part, getattr(settings, part)) for part in ADAPTERS}

    log = cached_property[Log](lambda self: self._open("log"))
    index = cached_property[Index](lambda self: self._open("index"))
    cache = cached_property[Cache](lambda self: self._open("cache"))
    policies = cached_property[PolicyStore](lambda self: self._open("policies"))
    mailer = cached_property[Mailer](lambda self: self._open("mail"))
    narrator = cached_property[Narrator](lambda self: self._open("narrator"))
    advisor = cached_property[Advisor | None](lambda self: self._open("advisor"))  # None where nobody advises

    @cached_property
    def chunks(self) -> CachedChunks:
        """The index's chunks, read through the cache."""
        return CachedChunks(self.index, self.cache)

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


@contextmanager
def open_services(settings: Settings, clock: Clock = system_clock, *, create: bool = False) -> Iterator[Services]:
    """Give the services of the settings; raises SettingsError for a URL that can't be used, before any is opened.

    create: whether a log or index that does not exist is made; else it is an error, as it is almost always the
    wrong folder or a misspelt path.
    """
    with Services(settings, clock, create=create) as services:
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


def initialise(
    services: Services,
    *,
    partitions: int | None = None,
    segment: int | None = None,
    grace_ms: int | None = None,
    max_clock_skew_ms: int | None = None,
    sample_every: int | None = None,
) -> Layout:
    """Create the topics, then the layout, once; the same again is a no-op, and None stands for what is there.

    Raises LayoutMismatchError, with nothing written, where log or index were made with other values.
    """
    log, index = services.log, services.index
    topic = _topic(log)
    stored = index.layout()
    if stored and (topic is None or topic.identity != stored.log):
        raise _other_log(services, stored, topic)
    if topic and partitions not in {None, topic.partitions}:
        raise LayoutMismatchError(
            f"{services.settings.log} has {topic.partitions} partitions, {partitions} were asked for: leave "
            f"--partitions out, or name another log and index by --log and --index"
        )
    given = {
        "segment": segment,
        "grace_ms": grace_ms,
        "max_clock_skew_ms": max_clock_skew_ms,
        "sample_every": sample_every,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    if stored:
        _require_same(services, stored, wanted)
    for name in SINGLE:
        log.create(name, 1)
    count = topic.partitions if topic else partitions or DEFAULT_PARTITIONS
    for name in PARTITIONED:
        log.create(name, count)
    layout = index.layout(Layout(log.topic(TRANSITIONS).identity, **wanted))
    assert layout is not None
    _require_same(services, layout, wanted)  # another process may have been first
    _ = services.policies  # opened to be made: it may have a keyspace of its own
    return layout


def layout(services: Services) -> Layout:
    """Return the index's layout.

    Raises SettingsError where there is none, UnknownTopicError where the log has no topics (`headrace init`), and
    LayoutMismatchError where the index belongs to another log or to other code.
    """
    stored = services.index.layout()
    if stored is None:
        raise SettingsError(f"the index {services.settings.index} has no layout: write it with `headrace init`")
    topic = services.log.topic(TRANSITIONS)
    if topic.identity != stored.log:
        raise _other_log(services, stored, topic)
    ours = Layout(stored.log)
    for field in ("codec_version", "rules_version"):
        if getattr(stored, field) != getattr(ours, field):
            raise LayoutMismatchError(
                f"the index {services.settings.index} was written under {field} {getattr(stored, field)}, this "
                f"headrace has {getattr(ours, field)}: use the headrace that wrote it, or ingest into a new index"
            )
    return stored


def _topic(log: Log) -> TopicInfo | None:
    try:
        return log.topic(TRANSITIONS)
    except UnknownTopicError:
        return None


def _other_log(services: Services, stored: Layout, topic: TopicInfo | None) -> LayoutMismatchError:
    found = f"is {topic.identity}" if topic else "has no topics yet"
    return LayoutMismatchError(
        f"the index {services.settings.index} was written for the log {stored.log}, but "
        f"{services.settings.log} {found}: give the log and the index that belong together, or a new index"
    )


def _require_same(services: Services, stored: Layout, wanted: dict[str, int]) -> None:
    for name, value in wanted.items():
        if getattr(stored, name) != value:
            raise LayoutMismatchError(
                f"the index {services.settings.index} was written with {name} {getattr(stored, name)}, {value} was "
                "asked for: leave the option out, or name another log and index by --log and --index"
            )


def as_record(layout: Layout, partitions: int) -> dict[str, Any]:
    """Return the layout and the number of partitions, for printing."""
    return {"partitions": partitions, **msgspec.to_builtins(layout)}


# Each job put together: `options` are its constructor's. A job's module is loaded when it is composed: ingest and the
# fleet need no torch.
# ruff: noqa: PLC0415


def compose_ingest(services: Services, **options: Any) -> "Ingest":  # noqa: ANN401
    """Put `ingest` together; raises as `layout` does."""
    from headrace.pipelines.ingest.job import Ingest

    return Ingest(services.log, services.index, services.cache, layout(services), **options)


def compose_learn(services: Services, *, advised: bool = True, **options: Any) -> "Learn":  # noqa: ANN401
    """Put `learn` together; raises as `layout` does. advised: by the setting's advisor, if it names one."""
    from headrace.pipelines.learn.advice import advising
    from headrace.pipelines.learn.job import Learn

    tasks = TaskTable(services.log, layout(services))
    advice = advising(services.advisor, services.settings.advisor.options) if advised else None
    return Learn(services.log, services.chunks, services.policies, tasks, services.clock, advising=advice, **options)


def compose_explain(services: Services, **options: Any) -> "Explainer":  # noqa: ANN401
    """Put `explain` together; raises as `layout` does."""
    from headrace.pipelines.explain.job import Explainer

    tasks = TaskTable(services.log, layout(services))
    return Explainer(services.log, services.policies, services.chunks, tasks, services.narrator, **options)


def compose_digest(services: Services, envelope: "Envelope", **options: Any) -> "Digest":  # noqa: ANN401
    """Put `digest` together."""
    from headrace.pipelines.report.job import Digest

    return Digest(services.log, services.mailer, services.clock, envelope, **options)


def compose_fleet(services: Services, **options: Any) -> "Fleet":  # noqa: ANN401
    """Put the fleet together, and add its task; raises as `layout` does."""
    from headrace.pipelines.fleet.job import Fleet, cloud_task

    spec, found = cloud_task(), layout(services)
    add_task(services.log, TaskTable(services.log, found), spec)
    return Fleet(services.log, services.policies, spec, found, **options)
