"""The one composition root: Settings -> open services, closed in reverse; and the layout that binds them.

A new backend is one file in sinks and one line in ADAPTERS.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from headrace.learners.explain.template import TemplateNarrator
from headrace.pipelines.settings import Settings, Url, suggest
from headrace.pipelines.topics import PARTITIONED, SINGLE, TRANSITIONS
from headrace.schemas.errors import LayoutMismatchError, SettingsError, UnknownTopicError
from headrace.schemas.ports import Advisor, Cache, Clock, Index, Log, Mailer, Narrator, PolicyStore, TopicInfo
from headrace.schemas.records import Layout
from headrace.sinks.cached_index import CachedChunks

DEFAULT_PARTITIONS: Final = 4
DEFAULT_CACHE_BYTES: Final = 256 << 20
ANY_OPTION: Final = ("*",)
"""Of an adapter whose driver knows its own options."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """How a URL becomes a backend: open(url, clock, create). options: what its query string may hold.

    local: whether the path is one of this machine. made_by_init: whether nothing but `headrace init` makes it.
    """

    open: Callable[[Url, Clock, bool], Any]
    options: tuple[str, ...] = ()
    local: bool = False
    made_by_init: bool = False


def _sink(module: str) -> Any:  # noqa: ANN401 imported only when its URL is used: drivers are slow to load
    return import_module(f"headrace.sinks.{module}")


# fmt: off
ADAPTERS: Final[dict[str, dict[str, Adapter]]] = {
    "log": {
        "sqlite": Adapter(lambda url, clock, _: _sink("log_sqlite").SqliteLog(url.path, clock), (), True, True),
        "kafka": Adapter(lambda url, *_: _sink("log_kafka").KafkaLog(url.text), ANY_OPTION),
    },
    "index": {
        "sqlite": Adapter(lambda url, *_: _sink("index_sqlite").SqliteIndex(url.path), (), True, True),
        "cassandra": Adapter(
            lambda url, _, create: _sink("index_cassandra").CassandraIndex.open(
                url.host, url.path, url.options, create=create),
            ("replication", "consistency", "ttl_days", "datacenter", "tls", "ca_file", "cert_file", "key_file")),
    },
    "cache": {
        "memory": Adapter(lambda url, *_: _sink("cache_memory").MemoryCache(_bytes(url)), ("bytes",)),
        "redis": Adapter(
            lambda url, *_: _sink("cache_redis").open_cache(url.scheme, url.host, url.path, url.options),
            ("prefix", "ttl_days", "memory")),
        "rediss": Adapter(
            lambda url, *_: _sink("cache_redis").open_cache(url.scheme, url.host, url.path, url.options),
            ("prefix", "ttl_days", "memory", "ca_file", "cert_file", "key_file")),
    },
    "policies": {
        "file": Adapter(lambda url, *_: _sink("policies_files").FilePolicyStore(url.path), (), True),
        "cassandra": Adapter(
            lambda url, _, create: _sink("policies_cassandra").CassandraPolicyStore.open(
                url.host, url.path, url.options, create=create),
            ("replication", "consistency", "ttl_days", "datacenter", "tls", "ca_file", "cert_file", "key_file")),
    },
    "mail": {
        "file": Adapter(lambda url, *_: _sink("mail_files").FileMailer(url.path), (), True),
    },
    "narrator": {
        "template": Adapter(lambda *_: TemplateNarrator()),
    },
    "advisor": {
        "none": Adapter(lambda *_: None),
        "rules": Adapter(lambda *_: import_module("headrace.learners.advisor").RuleAdvisor(), ("mode", "every")),
        "openai": Adapter(
            lambda url, *_: _sink("advisor_openai").open_advisor(url.path, url.options),
            ("mode", "every", "base_url", "timeout_s", "max_tokens", "key_file")),
    },
}
"""Setting -> URL scheme -> how to open it, the options it knows, local, made_by_init."""
# fmt: on


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
        self._adapters = {part: _adapter(part, getattr(settings, part)) for part in ADAPTERS}

    @cached_property
    def log(self) -> Log:
        """The log."""
        opened: Log = self._open("log")
        return opened

    @cached_property
    def index(self) -> Index:
        """The index."""
        opened: Index = self._open("index")
        return opened

    @cached_property
    def cache(self) -> Cache:
        """The cache."""
        opened: Cache = self._open("cache")
        return opened

    @cached_property
    def policies(self) -> PolicyStore:
        """The policy store."""
        opened: PolicyStore = self._open("policies")
        return opened

    @cached_property
    def mailer(self) -> Mailer:
        """The mailer."""
        opened: Mailer = self._open("mail")
        return opened

    @cached_property
    def narrator(self) -> Narrator:
        """The narrator."""
        opened: Narrator = self._open("narrator")
        return opened

    @cached_property
    def advisor(self) -> Advisor | None:
        """The advisor, None where nobody advises."""
        opened: Advisor | None = self._open("advisor")
        return opened

    @cached_property
    def chunks(self) -> CachedChunks:
        """The index's chunks, read through the cache."""
        return CachedChunks(self.index, self.cache)

    def _open(self, part: str) -> Any:  # noqa: ANN401
        url: Url = getattr(self.settings, part)
        adapter = self._adapters[part]
        if adapter.made_by_init and not self._create and not Path(url.path).exists():
            raise SettingsError(
                f"the {part} {url} does not exist: create it with `headrace init`, or name another by --{part}"
            )
        opened = adapter.open(url, self.clock, self._create)
        close = getattr(opened, "close", None)
        if close:
            self._stack.callback(close)
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
    adapter = schemes[url.scheme]
    for option in url.options:
        if option not in adapter.options and adapter.options != ANY_OPTION:
            known = suggest(option, list(adapter.options)) if adapter.options else "; it has none"
            raise SettingsError(f"--{part} {url}: unknown option {option!r}{known}")
    if adapter.local and (not url.path or url.host not in {"", "localhost"}):
        raise SettingsError(f"--{part} {url}: write {url.scheme}:relative/path or {url.scheme}:///absolute/path")
    return adapter


def _bytes(url: Url) -> int:
    text = url.options.get("bytes", str(DEFAULT_CACHE_BYTES))
    if not text.isdecimal():
        raise SettingsError(
            f"--cache {url}: bytes is {text!r}; a whole number is needed, such as {DEFAULT_CACHE_BYTES}"
        )
    return int(text)


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
    getattr(services, "policies")  # noqa: B009 opened to be made: it may have a keyspace of its own
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
