"""A keyspace of Cassandra: connection, schema, errors, and statements of which many are under way at a time."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from string import Template
from typing import Any, Final, TypeVar

from cassandra import AuthenticationFailed, ConsistencyLevel, DriverException, RequestValidationException, Unauthorized
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.policies import ConstantReconnectionPolicy, DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.protocol import ErrorMessage
from cassandra.query import BoundStatement, SimpleStatement, tuple_factory

from headrace.schemas.errors import HeadraceError, HiddenRowsError, SettingsError, StorageError, UnavailableError
from headrace.schemas.url import Url
from headrace.sinks.cassandra.target import Target, parse_target

T = TypeVar("T")

SCHEMA_VERSION: Final = "2"
REQUEST_TIMEOUT_S: Final = 3.0
"""A little more than Cassandra itself takes to give up a write."""
RETRY_S: Final = 2.0
"""For how long a request that fails is tried again before it counts as unavailable."""
FIRST_WAIT_S: Final = 0.05
READS_IN_FLIGHT: Final = 32
DRIVER_ERRORS: Final = (DriverException, NoHostAvailable, ConnectionException, ErrorMessage, OSError)

_SCHEMA_TIMEOUT_S: Final = 60.0
_SCHEMA_VERSION: Final = "SELECT value FROM meta WHERE name = 'schema'"
_CATALOG_TTL_S: Final = 86_400
"""How much longer than rows the catalog lives: a process enters its buckets again before half of it is over."""
_BUFFER_BYTES: Final = 1 << 16
_PROTOCOL: Final = 4
"""Version 5 checks every frame's CRC in Python: 20 to 40 % more CPU for the same rows."""


class Keyspace:
    """An open keyspace. Use it from one thread at a time; close it.

    create: whether keyspace and tables that are missing are made. consistency: of every statement.
    Raises SettingsError where the URL is at fault, UnavailableError where nothing answers.
    """

    def __init__(self, target: Target, *, create: bool = False) -> None:
        self.target = target
        self._cluster = _cluster(target)
        try:
            self.session = self._cluster.connect()
            if create:
                self._create()
            self._use()
            self.consistency = self._consistency()
            self._check(create=create)
        except DRIVER_ERRORS as error:
            self._cluster.shutdown()
            raise self.failure(error, "open") from error
        except BaseException:
            self._cluster.shutdown()
            raise

    def prepare(self, cql: str, fetch_size: int | None = None, consistency: int | None = None) -> "Prepared":
        """Return the statement, prepared; every statement of headrace may be sent twice.

        What is written on a condition (IF) is read by LOCAL_SERIAL, which sees all of it.
        """
        try:
            statement = self.session.prepare(cql)
        except DRIVER_ERRORS as error:
            raise self.failure(error, "prepare") from error
        statement.is_idempotent = True
        statement.consistency_level = self.consistency if consistency is None else consistency
        statement.serial_consistency_level = ConsistencyLevel.LOCAL_SERIAL
        if fetch_size is not None:
            statement.fetch_size = fetch_size
        return Prepared(statement)

    def start(self, statement: Any, page: bytes | None = None) -> "Call":
        """Send a bound statement; `page` is where an earlier page ended."""
        return Call(statement, page, self._send(statement, page))

    def _send(self, statement: Any, page: bytes | None) -> Any:
        try:
            return self.session.execute_async(statement, paging_state=page)
        except DRIVER_ERRORS as error:
            raise self.failure(error, "read") from error

    def finish(self, call: "Call") -> Any:
        """Return a call's result; tries it again with back-off, at least once, then raises UnavailableError."""
        deadline_s, wait_s = time.monotonic() + RETRY_S, FIRST_WAIT_S
        while True:
            try:
                return call.future.result()
            except DRIVER_ERRORS as error:
                failure = self.failure(error, "read")
                late = time.monotonic() + wait_s > deadline_s and wait_s > FIRST_WAIT_S
                if late or not isinstance(failure, UnavailableError):
                    raise failure from error
            time.sleep(wait_s)
            wait_s *= 2
            call.future = self._send(call.statement, call.page)

    def rows(self, statement: Any) -> list[Any]:
        """Return the rows of a statement that gives few."""
        found: list[Any] = self.finish(self.start(statement)).current_rows
        return found

    def ask(self, statements: Iterable[Any], most: int = READS_IN_FLIGHT) -> Iterator[list[Any]]:
        """Return each statement's rows (few), in order, with at most `most` under way."""
        for call in self._ahead(statements, most):
            yield self.finish(call).current_rows

    def stream(self, statements: Iterable[Any], ahead: int) -> Iterator[Any]:
        """Stream the rows of statements that may give many, in order, `ahead` first pages under way."""
        for call in self._ahead(statements, ahead):
            yield from self._pages(call)

    def _ahead(self, statements: Iterable[Any], most: int) -> "Iterator[Call]":
        """Start the statements in order, at most `most` at a time; yield each call when it is next."""
        waiting: deque[Call] = deque()
        left = iter(statements)
        while True:
            waiting.extend(self.start(s) for s in islice(left, most - len(waiting)))
            if not waiting:
                return
            yield waiting.popleft()

    def _pages(self, call: "Call | None") -> Iterator[Any]:
        while call is not None:
            result = self.finish(call)
            page = result.paging_state
            call = self.start(call.statement, page) if page else None  # on its way while this page is used
            yield from result.current_rows

    def failure(self, error: BaseException, doing: str) -> HeadraceError:
        """Return the driver's error as headrace's."""
        if isinstance(error, NoHostAvailable):
            refused = [e for e in error.errors.values() if isinstance(e, AuthenticationFailed)]
            if not refused:
                return UnavailableError(
                    f"{self.target}: no node answers ({_brief(error)}), {doing} failed: check host and port, and that "
                    "it runs"
                )
            error = refused[0]
        if isinstance(error, AuthenticationFailed | Unauthorized):
            return SettingsError(f"{self.target}: access is refused: check the user and the password ({_brief(error)})")
        if isinstance(error, RequestValidationException):
            return StorageError(
                f"{self.target}: {doing} failed ({_brief(error)}): `headrace init` makes the tables that are missing; "
                "tables that are not headrace's need another keyspace"
            )
        return UnavailableError(f"{self.target}: {doing} failed ({_brief(error)})")

    def about(self) -> str:
        """Return the cluster's version, its nodes and what the statements ask of them."""
        hosts = self._cluster.metadata.all_hosts()
        versions = ", ".join(sorted({str(host.release_version) for host in hosts}))
        nodes = f"{len(hosts)} node{'s' if len(hosts) > 1 else ''}"
        return f"Cassandra {versions}, {nodes}, {ConsistencyLevel.value_to_name[self.consistency]}"

    def close(self) -> None:
        self._cluster.shutdown()

    @property
    def _metadata(self) -> Any:
        return self._cluster.metadata.keyspaces.get(self.target.keyspace)

    def _create(self) -> None:
        name, wanted = self.target.keyspace, self.target.replication
        if self._metadata is None:
            text = wanted or {"class": "NetworkTopologyStrategy", "replication_factor": "1"}
            self._run(f"CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = {text}")
        elif wanted and (found := _factors(self._metadata)) != _wanted_factors(wanted, found):
            raise SettingsError(
                f"{self.target} has the replication {found}, {wanted} was asked for: leave the option out, or change "
                "it by ALTER KEYSPACE and run a repair"
            )
        _enter(self.session, name)
        self._require_version(missing_is_fine=True)
        for statement in schema(self.target.ttl_s or 0):
            self._run(statement)
        self._run("INSERT INTO meta (name, value) VALUES ('schema', %s) IF NOT EXISTS", (SCHEMA_VERSION,))
        if self.target.ttl_s not in {None, self._ttl_s()}:
            self._change_ttl(self.target.ttl_s or 0)

    def _run(self, cql: str, values: tuple[str, ...] | None = None) -> None:
        self.session.execute(cql, values, timeout=_SCHEMA_TIMEOUT_S)

    def _change_ttl(self, ttl_s: int) -> None:
        for table in ("chunks", "windows", "decisions"):
            self._run(f"ALTER TABLE {table} WITH default_time_to_live = {ttl_s}")
        for table in ("tasks", "groups", "buckets"):
            self._run(f"ALTER TABLE {table} WITH default_time_to_live = {_catalog_ttl_s(ttl_s)}")

    def _use(self) -> None:
        if self._metadata is None:
            raise SettingsError(
                f"{self.target}: the keyspace does not exist: create it with `headrace init`, or name another"
            )
        self.session.set_keyspace(self.target.keyspace)
        self._require_version()

    def _require_version(self, *, missing_is_fine: bool = False) -> None:
        found = "meta" in self._metadata.tables if self._metadata else False
        # One replica alone may not have it yet.
        select = SimpleStatement(_SCHEMA_VERSION, consistency_level=ConsistencyLevel.LOCAL_QUORUM)
        rows = self.session.execute(select).current_rows if found else []
        if not rows and not missing_is_fine:
            raise SettingsError(f"{self.target} has no tables of headrace's: create them with `headrace init`")
        if rows and rows[0][0] != SCHEMA_VERSION:
            raise StorageError(
                f"{self.target}: it has schema {rows[0][0]}, this headrace reads {SCHEMA_VERSION}: use the headrace "
                "that wrote it, or another keyspace"
            )

    def _check(self, *, create: bool) -> None:
        if not create and self.target.ttl_s not in {None, self._ttl_s()}:
            raise SettingsError(
                f"{self.target}: its rows live {self._ttl_s() // 86_400} days, ttl_days asks for "
                f"{(self.target.ttl_s or 0) // 86_400}: leave the option out, or change it with `headrace init`"
            )

    def _ttl_s(self) -> int:
        return int(self._metadata.tables["chunks"].options["default_time_to_live"])

    def _consistency(self) -> int:
        replicated = max(_factors(self._metadata).values(), default=1) > 1
        name = self.target.consistency or ("LOCAL_QUORUM" if replicated else "LOCAL_ONE")
        level: int = getattr(ConsistencyLevel, name)
        return level


def opened(kind: Callable[[Keyspace], T], target: Target, *, create: bool) -> T:
    """Open what lies in a keyspace; where that fails the keyspace is closed."""
    keyspace = Keyspace(target, create=create)
    try:
        return kind(keyspace)
    except BaseException:
        keyspace.close()
        raise


def hidden(target: Target, names: Sequence[str]) -> HiddenRowsError:
    """Say that rows of the index are hidden, and what people can do."""
    name = target.keyspace
    return HiddenRowsError(
        f"{target}: {len(names)} rows were written and are not there, such as {names[0]}: a deletion or a write made "
        "by hand, whose timestamp is later, lies over them. Delete what was written by hand; set gc_grace_seconds of "
        f"{name}'s chunks, windows and decisions to 0 (ALTER TABLE), run `nodetool repair {name}` where there are "
        f"replicas and `nodetool compact {name}` on each node, and set it to 10800 again; then `headrace run ingest "
        "--from-start`. Or ingest from the start into a new keyspace"
    )


def drop(url: Url) -> None:
    """Drop the URL's keyspace; a cluster with `auto_snapshot` on keeps its files as a snapshot."""
    keyspace = Keyspace(parse_target(url))
    try:
        keyspace.session.execute(f"DROP KEYSPACE {keyspace.target.keyspace}", timeout=_SCHEMA_TIMEOUT_S)
    except DRIVER_ERRORS as error:
        raise keyspace.failure(error, "drop") from error
    finally:
        keyspace.close()


class Prepared:
    """A prepared statement. It binds three times as fast as the driver, which asks about each column's encryption."""

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._serialisers = [column.type.serialize for column in statement.column_metadata]

    def bind(self, values: Sequence[Any]) -> Any:
        """Return the statement with its values; None is CQL's null."""
        bound = BoundStatement(self._statement)
        bound.values = [
            None if value is None else serialise(value, _PROTOCOL)
            for serialise, value in zip(self._serialisers, values, strict=True)
        ]
        return bound


@dataclass(slots=True)
class Call:
    """A statement under way."""

    statement: Any
    page: bytes | None
    future: Any


def schema(ttl_s: int) -> list[str]:
    """Return the statements of schema.cql. ttl_s: how long chunks and windows live, 0 for ever."""
    text = files(__package__).joinpath("schema.cql").read_text("utf-8")
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    # Cassandra advises against more than some 50 windows of TWCS; a window of one's own is dropped whole.
    window_days = max(1, -(-ttl_s // 86_400 // 30)) if ttl_s else 7
    filled = Template(text).substitute(
        ttl_s=ttl_s,
        catalog_ttl_s=_catalog_ttl_s(ttl_s),
        window_days=window_days,
        speculative_retry="MIN(99p,50ms)",  # until a dead node is known to be, 99p alone waits for seconds
    )
    return [statement.strip() for statement in filled.split(";") if statement.strip()]


def _catalog_ttl_s(ttl_s: int) -> int:
    return ttl_s + _CATALOG_TTL_S if ttl_s else 0


def _cluster(target: Target) -> Any:
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)  # it repeats, with traces, what is raised or retried
    policy = TokenAwarePolicy(DCAwareRoundRobinPolicy(target.datacenter or ""))
    # No speculative execution: the driver calls back twice where both nodes answer.
    profile = ExecutionProfile(policy, row_factory=tuple_factory, request_timeout=REQUEST_TIMEOUT_S)
    credentials = target.user is not None and PlainTextAuthProvider(target.user, target.password)
    try:
        return Cluster(
            list(target.hosts),
            auth_provider=credentials or None,
            ssl_context=target.tls,
            protocol_version=_PROTOCOL,
            compression=False,
            connection_class=_connection_class(),
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            # The driver's own policy waits up to ten minutes.
            reconnection_policy=ConstantReconnectionPolicy(0.5, max_attempts=None),
        )
    except DRIVER_ERRORS as error:  # a name that can't be resolved
        raise SettingsError(f"{target}: no such host: check the name") from error


def _connection_class() -> Any:
    """Return libev's reactor with larger buffers, or what the driver falls back on where libev is missing."""
    try:
        from cassandra.io.libevreactor import LibevConnection  # noqa: PLC0415 it may be missing
    except ImportError:
        return Cluster.connection_class

    class _Connection(LibevConnection):  # type: ignore[misc] # the driver has no types
        # By 4 KiB, as the driver has it, a batch of 256 KiB takes 64 system calls.
        in_buffer_size = _BUFFER_BYTES
        out_buffer_size = _BUFFER_BYTES
        # When the kernel's buffer is full the driver refuses the message, and never frees its stream id. What is
        # under way is bounded by ourselves, so messages wait in the connection's queue instead.
        _socket_writable = property(lambda _: True, lambda _, __: None)

    return _Connection


def _factors(metadata: Any) -> dict[str, int]:
    """Return the copies by data centre."""
    options = metadata.replication_strategy.export_for_schema() if metadata.replication_strategy else "{}"
    pairs = (pair.split(":") for pair in options.strip("{}").replace("'", "").replace(" ", "").split(","))
    return {name: int(value.split("/")[0]) for name, value in pairs if name != "class"}


def _wanted_factors(wanted: dict[str, str], found: dict[str, int]) -> dict[str, int]:
    """Return the factors as Cassandra stores them: one number stands for every data centre."""
    if "replication_factor" in wanted and "replication_factor" not in found:
        return dict.fromkeys(found, int(wanted["replication_factor"]))
    return {name: int(value) for name, value in wanted.items() if name != "class"}


def _brief(error: BaseException) -> str:
    if isinstance(error, NoHostAvailable):
        causes = {f"{host}: {_brief(cause)}" for host, cause in error.errors.items()}
        return "; ".join(sorted(causes)) or str(error.args[0])
    return " ".join(str(error).split()) or type(error).__name__


def _enter(session: Any, name: str) -> None:
    """Use a keyspace that was just made: a busy node may hear of it later than the driver waits."""
    until_s = time.monotonic() + _SCHEMA_TIMEOUT_S
    while True:
        try:
            session.set_keyspace(name)
        except DRIVER_ERRORS as error:
            if "does not exist" not in str(error) or time.monotonic() > until_s:
                raise
            time.sleep(0.2)
        else:
            return
