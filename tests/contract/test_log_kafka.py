"""What the Kafka log promises beyond the port: rebalances, transactions, markers, settings, and brokers that fail."""

import gc
import json
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic
from contract_faults import child
from contract_polling import assigned, assignments, batches, ended, poll_until, values
from contract_servers import Kafka, temporary

from headrace.pipelines.settings import read_settings
from headrace.pipelines.topics import messages
from headrace.pipelines.wiring import open_services
from headrace.schemas.errors import (
    CommitConflictError,
    HeadraceError,
    SettingsError,
    UnavailableError,
    UnknownTopicError,
)
from headrace.schemas.partition import murmur2, partition_of
from headrace.schemas.ports import Commit, EndOfLog, Event, Record, Revoked, Subscription
from headrace.schemas.url import parse_url
from headrace.sinks.kafka import client as kafka_client
from headrace.sinks.kafka import groups as kafka_groups
from headrace.sinks.kafka import log as log_kafka
from headrace.sinks.kafka import topics as kafka_topics
from headrace.sinks.kafka import transactions as kafka_transactions
from headrace.sinks.kafka.log import KafkaLog
from headrace.sinks.kafka.target import parse_cluster
from local_servers import ports

# org.apache.kafka.common.utils.UtilsTest.testMurmur2
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}

# Joins a group, and commits with an output when it is told to. Argv: url, name.
MEMBER = """
import sys
from headrace.schemas.errors import HeadraceError
from headrace.schemas.ports import Assigned, Commit, Record
from headrace.schemas.url import parse_url
from headrace.sinks.kafka.target import parse_cluster
from headrace.sinks.kafka.log import KafkaLog

url, name = sys.argv[1:]
log = KafkaLog(parse_cluster(parse_url(url)))
subscription = log.subscribe(name, name)
while not any(isinstance(event, Assigned) for event in subscription.poll(10, 0.1)):
    pass
print("assigned", flush=True)
for line in sys.stdin:
    try:
        subscription.commit({0: Commit(5, "zombie")}, [Record(name + "-out", b"k", b"zombie")])
        print("committed", flush=True)
    except HeadraceError as error:
        print(type(error).__name__, flush=True)
    for _ in range(20):
        for event in subscription.poll(10, 0.1):
            print(type(event).__name__, flush=True)
"""

# Dies when all of a commit is with the broker, but the commit itself. Argv: url, name.
CUT_OFF = """
import os, signal, sys
from headrace.schemas.ports import Commit, Record
from headrace.sinks.kafka import transactions as kafka_transactions
from headrace.schemas.url import parse_url
from headrace.sinks.kafka.target import parse_cluster
from headrace.sinks.kafka.log import KafkaLog

url, name = sys.argv[1:]
log = KafkaLog(parse_cluster(parse_url(url)))
subscription = log.subscribe(name, name)
while not subscription.poll(10, 0.1):
    pass

def die(transactions, *_):
    transactions._producer.flush()
    print("sent", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

subscription.commit({0: Commit(1, "first")}, [Record(name + "-out", b"k", b"first")])
kafka_transactions.Transactions._end = die
subscription.commit({0: Commit(2, "second")}, [Record(name + "-out", b"k", b"second")])
"""


class HurtKafka(Kafka):
    """A broker of a test's own, with a listener that asks for a password."""

    def configure(self, template: str, **values: object) -> Path:
        config = super().configure(template, **values)
        text = config.read_text()
        self.sasl_port = getattr(self, "sasl_port", None) or ports.free_port((ports.LOOPBACK,))
        for key in ("listeners", "advertised.listeners"):
            text = text.replace(f"\n{key}=", f"\n{key}=SASL://{self.host}:{self.sasl_port},")
        text = text.replace("protocol.map=", "protocol.map=SASL:SASL_PLAINTEXT,")
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        text += "\nsasl.enabled.mechanisms=PLAIN\n"
        text += f'listener.name.sasl.plain.sasl.jaas.config={module} required user_alice="right:p@ss";\n'
        config.write_text(text)
        return config


@pytest.fixture(scope="module")
def own_broker() -> Iterator[HurtKafka]:
    with temporary() as folder:
        yield HurtKafka(folder / "kafka")


@pytest.fixture
def hurt(own_broker: HurtKafka) -> HurtKafka:
    """A broker that tests may kill and freeze."""
    own_broker.start()
    return own_broker


@pytest.fixture
def url(kafka: Kafka) -> str:
    return f"{kafka.url}?topic.metadata.refresh.interval.ms=200"


def kafka_log(text: str) -> KafkaLog:
    return KafkaLog(parse_cluster(parse_url(text)))


@pytest.fixture
def log(url: str) -> Iterator[KafkaLog]:
    with closing(kafka_log(url)) as opened:
        yield opened


@pytest.fixture
def admin(kafka: Kafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": f"{kafka.host}:{kafka.port}"})


def done(futures: dict) -> None:
    for future in futures.values():
        future.result(10)


def numbered(topic: str, count: int, partition: int = 0, start: int = 0) -> list[Record]:
    return [Record(topic, b"k", b"%d" % i, partition=partition) for i in range(start, start + count)]


class Member:
    """A subscription that notes what it has and what it has read."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.partitions: set[int] = set()
        self.events: list[Event] = []

    def poll(self) -> None:
        for event in self.subscription.poll(100, 0.05):
            self.events.append(event)
            if isinstance(event, Revoked):
                self.partitions.remove(event.partition)
        self.partitions |= {p for p in assignments(self.events[-50:]) if self._has(p)}

    def _has(self, partition: int) -> bool:
        last = [type(e).__name__ for e in self.events if getattr(e, "partition", None) == partition]
        return [name for name in last if name in {"Assigned", "Revoked"}][-1:] == ["Assigned"]


def poll_all(members: list[Member], reached: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline, [(m.partitions, m.events[-5:]) for m in members]
        for member in members:
            member.poll()


def be_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait only shortly for a broker that is away."""
    for module in (kafka_client, kafka_groups, kafka_topics, kafka_transactions, log_kafka):
        monkeypatch.setattr(module, "ANSWER_S", 1.0)


# --- groups


def test_members_share_the_partitions_as_they_come_and_go(log: KafkaLog, name: str) -> None:
    log.create(name, 4)
    a = Member(log.subscribe(name, name))
    poll_all([a], lambda: a.partitions == {0, 1, 2, 3})
    b = Member(log.subscribe(name, name))
    poll_all([a, b], lambda: len(a.partitions) == len(b.partitions) == 2)
    assert a.partitions | b.partitions == {0, 1, 2, 3}
    kept = set(a.partitions)
    assert {e.partition for e in a.events if isinstance(e, Revoked)} == {0, 1, 2, 3} - kept
    log.send([record for p in range(4) for record in numbered(name, 10, p)])
    poll_all([a, b], lambda: sum(map(len, batches(a.events + b.events))) == 40)
    assert set(values(a.events)) == kept
    b.subscription.close()
    poll_all([a], lambda: a.partitions == {0, 1, 2, 3})
    a.subscription.close()


def test_a_partition_given_away_goes_on_from_its_commit(log: KafkaLog, name: str) -> None:
    log.create(name, 2)
    log.send(numbered(name, 10, 0) + numbered(name, 10, 1))
    a = Member(log.subscribe(name, name))
    poll_all([a], lambda: sum(map(len, batches(a.events))) == 20)
    a.subscription.commit({0: Commit(4, "zero"), 1: Commit(7, "one")})
    b = Member(log.subscribe(name, name))
    poll_all([a, b], lambda: bool(b.partitions))
    (moved,) = b.partitions
    assert assignments(b.events)[moved].commit == {0: Commit(4, "zero"), 1: Commit(7, "one")}[moved]
    poll_all([a, b], lambda: bool(batches(b.events)))
    assert batches(b.events)[0].offsets[0] == {0: 4, 1: 7}[moved]
    with pytest.raises(CommitConflictError, match=f"partition {moved} is not assigned"):
        a.subscription.commit({moved: Commit(9)})
    b.subscription.commit({moved: Commit(10)})
    a.subscription.commit({1 - moved: Commit(10)})
    for member in (a, b):
        member.subscription.close()


def test_a_partition_added_later_is_assigned_from_its_beginning(log: KafkaLog, admin: AdminClient, name: str) -> None:
    log.create(name, 1)
    log.send(numbered(name, 3))
    subscription = log.subscribe(name, name)
    poll_until(subscription, ended(1))
    done(admin.create_partitions([NewPartitions(name, 2)]))
    deadline = time.monotonic() + 10
    while log.topic(name).partitions < 2:
        assert time.monotonic() < deadline
    log.send(numbered(name, 5, 1))
    events = poll_until(subscription, lambda events: 1 in values(events))
    assert assignments(events)[1].begin == 0
    assert values(events) == {1: [b"0", b"1", b"2", b"3", b"4"]}
    subscription.close()


def test_a_member_that_was_expelled_commits_nothing_and_joins_again(url: str, log: KafkaLog, name: str) -> None:
    log.create(name, 1)
    log.create(f"{name}-out", 1)
    fast = f"{url}&session.timeout.ms=1000&heartbeat.interval.ms=300"
    with child(MEMBER, fast, name) as zombie:
        assert zombie.stdout
        assert zombie.stdin
        assert zombie.stdout.readline() == "assigned\n"
        zombie.send_signal(signal.SIGSTOP)
        successor = Member(log.subscribe(name, name))
        poll_all([successor], lambda: successor.partitions == {0})
        successor.subscription.commit({0: Commit(1, "successor")}, [Record(f"{name}-out", b"k", b"successor")])
        zombie.send_signal(signal.SIGCONT)
        zombie.stdin.write("go\n")
        zombie.stdin.flush()
        assert zombie.stdout.readline() == "CommitConflictError\n"
        assert zombie.stdout.readline() == "Revoked\n"
    assert log.committed(name, name) == {0: Commit(1, "successor")}
    assert log.read(f"{name}-out", 0, 0, 10).values == [b"successor"]
    successor.subscription.close()


def test_a_group_that_moves_on_meanwhile_does_not_fail_a_commit(log: KafkaLog, name: str) -> None:
    """Members come and go while another one commits as fast as it can: cooperation lets it keep its partitions."""
    log.create(name, 4)
    a = Member(log.subscribe(name, name))
    poll_all([a], lambda: a.partitions == {0, 1, 2, 3})
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            with closing(log.subscribe(name, name)) as other:
                for _ in range(4):
                    other.poll(10, 0.05)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for i in range(40):
            a.poll()
            mine = sorted(a.partitions)
            a.subscription.commit({p: Commit(0, f"{i}") for p in mine})
    finally:
        stop.set()
        thread.join()
    a.subscription.close()


def test_what_retention_took_is_seen_as_a_new_beginning(log: KafkaLog, admin: AdminClient, name: str) -> None:
    log.create(name, 2)
    log.send(numbered(name, 50) + numbered(name, 5, 1))
    subscription = log.subscribe(name, name)
    poll_until(subscription, ended(2))
    subscription.commit({0: Commit(20, "at 20")})
    done(admin.delete_records([TopicPartition(name, 0, 30)]))
    subscription.seek(0, 20)
    events = poll_until(subscription, lambda events: 0 in values(events))
    subscription.close()
    assert Revoked(0) in events
    assert (assignments(events)[0].commit, assignments(events)[0].begin) == (Commit(20, "at 20"), 30)
    assert values(events)[0][0] == b"30"
    assert log.read(name, 0, 0, 5).offsets.tolist() == [30, 31, 32, 33, 34]


def test_a_static_member_has_a_name_for_each_topic(kafka: Kafka, name: str) -> None:
    """A process with two subscriptions in one group does not fence itself."""
    with closing(kafka_log(f"{kafka.url}?group.instance.id=pod-0")) as log:
        log.create(name, 1)
        log.create(f"{name}-other", 1)
        subscriptions = [log.subscribe(name, topic) for topic in (name, f"{name}-other")]
        members = [Member(one) for one in subscriptions]
        poll_all(members, lambda: all(m.partitions == {0} for m in members))
        for member in members:
            member.subscription.commit({0: Commit(0)})
            member.subscription.close()


# --- transactions


def test_a_commit_cut_off_before_its_end_is_never_seen(
    url: str, log: KafkaLog, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.create(name, 1)
    log.create(f"{name}-out", 1)
    with child(CUT_OFF, f"{url}&session.timeout.ms=1000&heartbeat.interval.ms=300", name) as process:
        assert process.stdout
        assert process.stdout.readline() == "sent\n"
        assert process.wait(10) == -signal.SIGKILL
    _, end = log.bounds(f"{name}-out", 0)
    assert end == 3  # the first, its marker, and the second
    assert log.read(f"{name}-out", 0, 0, 10).values == [b"first"]
    be_impatient(monkeypatch)
    with pytest.raises(UnavailableError, match="transaction of a process that died"):
        log.committed(name, name)


def test_markers_of_transactions_neither_stop_nor_delay_a_reader(log: KafkaLog, name: str) -> None:
    log.create(name, 1)
    log.create(f"{name}-out", 2)
    subscription = log.subscribe(name, name)
    poll_until(subscription, assigned(1))
    for i in range(3):
        subscription.commit({0: Commit(0)}, numbered(f"{name}-out", 2, 0, 2 * i))
    subscription.close()
    assert log.bounds(f"{name}-out", 0) == (0, 9)
    assert log.read(f"{name}-out", 0, 0, 10).offsets.tolist() == [0, 1, 3, 4, 6, 7]
    assert log.read(f"{name}-out", 0, 2, 1).offsets.tolist() == [3]
    assert log.read(f"{name}-out", 0, 3, 2).offsets.tolist() == [3, 4]
    started_s = time.monotonic()
    for _ in range(20):
        assert len(log.read(f"{name}-out", 0, 8, 10)) == 0
    assert time.monotonic() - started_s < 1
    assert [v for batch in messages(log, f"{name}-out") for v in batch.values] == [b"%d" % i for i in range(6)]
    log.send(numbered(f"{name}-out", 1, 0, 6))
    assert log.read(f"{name}-out", 0, 8, 10).values == [b"6"]


def test_a_follower_is_told_an_end_behind_the_markers(log: KafkaLog, name: str) -> None:
    log.create(name, 1)
    log.create(f"{name}-out", 1)
    writer = log.subscribe(name, name)
    poll_until(writer, assigned(1))
    writer.commit({0: Commit(0)}, numbered(f"{name}-out", 2))
    reader = log.subscribe(f"{name}-reader", f"{name}-out")
    events = poll_until(reader, ended(1))
    assert assignments(events)[0].end == 3
    assert [e for e in events if isinstance(e, EndOfLog)][-1] == EndOfLog(0, 3)
    writer.close()
    reader.close()


@contextmanager
def outcome_unknown() -> Iterator[None]:
    """The answer to a commit gets lost: the broker has it, the caller does not know."""
    end = kafka_transactions.Transactions._end

    def lost(self, wanted):
        self._asked = wanted
        self._producer.commit_transaction(5)
        self._producer = None
        raise UnavailableError("the answer got lost")

    kafka_transactions.Transactions._end = lost
    try:
        yield
    finally:
        kafka_transactions.Transactions._end = end


def test_a_commit_whose_answer_got_lost_is_not_made_twice(log: KafkaLog, name: str) -> None:
    log.create(name, 1)
    log.create(f"{name}-out", 1)
    with closing(log.subscribe(name, name)) as subscription:
        poll_until(subscription, assigned(1))
        wanted = {0: Commit(3, "third")}, [Record(f"{name}-out", b"k", b"once")]
        with outcome_unknown(), pytest.raises(UnavailableError):
            subscription.commit(*wanted)
        subscription.commit(*wanted)
        subscription.commit({0: Commit(4)}, [Record(f"{name}-out", b"k", b"next")])
    assert log.committed(name, name) == {0: Commit(4)}
    assert log.read(f"{name}-out", 0, 0, 10).values == [b"once", b"next"]


def test_a_commit_that_moves_nothing_is_not_made_twice_either(log: KafkaLog, name: str) -> None:
    """The mark of the try in its metadata shows what became of it; who reads the commit does not see the mark."""
    log.create(name, 1)
    log.create(f"{name}-out", 1)
    with closing(log.subscribe(name, name)) as subscription:
        poll_until(subscription, assigned(1))
        subscription.commit({0: Commit(3, "third")})
        wanted = {0: Commit(3, "third")}, [Record(f"{name}-out", b"k", b"once")]
        with outcome_unknown(), pytest.raises(UnavailableError):
            subscription.commit(*wanted)
        subscription.commit(*wanted)
        subscription.commit(*wanted)
    assert log.committed(name, name) == {0: Commit(3, "third")}
    assert log.read(f"{name}-out", 0, 0, 10).values == [b"once", b"once"]


def test_the_same_commit_of_another_member_is_not_taken_for_ones_own(log: KafkaLog, name: str) -> None:
    """One's transaction was aborted, and the successor has come to the same place: the outputs are its own."""
    log.create(name, 1)
    log.create(f"{name}-out", 1)
    with closing(log.subscribe(name, name)) as first:
        poll_until(first, assigned(1))
        asked = {0: Commit(3, "third")}, (Record(f"{name}-out", b"k", b"first"),)
        transactions = first._transactions
        transactions._attempt(first, asked)
    transactions._ready()  # the broker aborts what was open
    transactions._producer = None
    with closing(log.subscribe(name, name)) as second:
        poll_until(second, assigned(1))
        second.commit(asked[0], [Record(f"{name}-out", b"k", b"second")])
        assert not transactions._settle(second, asked)
    assert log.read(f"{name}-out", 0, 0, 10).values == [b"second"]


def test_a_commit_is_made_anew_when_the_broker_had_not_made_it(log: KafkaLog, name: str) -> None:
    log.create(name, 1)
    log.create(f"{name}-out", 1)
    with closing(log.subscribe(name, name)) as subscription:
        poll_until(subscription, assigned(1))
        wanted = {0: Commit(3, "third")}, [Record(f"{name}-out", b"k", b"once")]
        transactions = subscription._transactions
        transactions._attempt(subscription, (wanted[0], tuple(wanted[1])))
        transactions._asked = (wanted[0], tuple(wanted[1]))
        transactions._producer = None  # gone without a word
        subscription.commit(*wanted)
    assert log.committed(name, name) == {0: Commit(3, "third")}
    assert log.read(f"{name}-out", 0, 0, 10).values == [b"once"]


def test_an_output_that_is_too_large_moves_nothing(log: KafkaLog, name: str) -> None:
    log.create(name, 1)
    log.create(f"{name}-out", 1)
    with closing(log.subscribe(name, name)) as subscription:
        poll_until(subscription, assigned(1))
        with pytest.raises(SettingsError, match=r"max\.message\.bytes"):
            subscription.commit({0: Commit(3)}, [Record(f"{name}-out", b"k", b"v"), Record(name, b"k", bytes(9 << 20))])
        subscription.commit({0: Commit(4)}, [Record(f"{name}-out", b"k", b"fits")])
    assert log.read(f"{name}-out", 0, 0, 10).values == [b"fits"]


# --- topics, keys, settings


def test_keys_go_where_javas_partitioner_puts_them(log: KafkaLog, name: str) -> None:
    assert {key: murmur2(key) for key in JAVA} == {key: number & 0xFFFFFFFF for key, number in JAVA.items()}
    log.create(name, 7)
    log.send([Record(name, key, b"v") for key in JAVA])
    found = {key: p for p in range(7) for key in log.read(name, p, 0, 10).keys}
    assert found == {key: (number & 0x7FFFFFFF) % 7 for key, number in JAVA.items()}


def test_a_record_without_key_goes_where_the_sqlite_log_puts_it(log: KafkaLog, name: str) -> None:
    log.create(name, 5)
    sent = [b"value-%d" % i for i in range(20)]
    log.send([Record(name, None, value) for value in sent])
    assert {v: p for p in range(5) for v in log.read(name, p, 0, 99).values} == {v: partition_of(v, 5) for v in sent}


def test_a_plain_consumer_reads_what_was_sent(kafka: Kafka, log: KafkaLog, name: str) -> None:
    log.create(name, 1)
    log.send([Record(name, b"k", b'{"a": 1}', (("content-type", b"application/json"),))])
    consumer = Consumer({"bootstrap.servers": f"{kafka.host}:{kafka.port}", "group.id": name})
    consumer.assign([TopicPartition(name, 0, 0)])
    message = consumer.poll(10)
    consumer.close()
    assert (message.key(), json.loads(message.value())) == (b"k", {"a": 1})
    assert message.headers() == [("content-type", b"application/json")]


def test_a_prefix_stands_before_every_name(kafka: Kafka, admin: AdminClient, log: KafkaLog, name: str) -> None:
    with closing(kafka_log(f"{kafka.url}/{name}")) as own:
        own.create("transitions", 1)
        own.send([Record("transitions", b"k", b"v")])
        with closing(own.subscribe("ingest", "transitions")) as subscription:
            poll_until(subscription, ended(1))
            subscription.commit({0: Commit(1)}, [Record("transitions", b"k", b"w")])
        assert own.committed("ingest", "transitions") == {0: Commit(1)}
    assert f"{name}.transitions" in admin.list_topics(timeout=5).topics
    assert log.committed(f"{name}.ingest", f"{name}.transitions") == {0: Commit(1)}
    groups = {group.group_id for group in admin.list_consumer_groups().result(5).valid}
    assert f"{name}.ingest" in groups


def described(admin: AdminClient, topic: str) -> dict[str, str]:
    (entries,) = [f.result(5) for f in admin.describe_configs([ConfigResource("topic", topic)]).values()]
    return {entry.name: entry.value for entry in entries.values()}


def test_topics_are_created_as_the_laws_want_them(kafka: Kafka, admin: AdminClient, name: str) -> None:
    wanted = {"transitions": ("delete", 7), "windows": ("compact,delete", 90), "policies": ("compact", None)}
    wanted |= {"mails": ("compact", None), "tasks": ("delete", None), "reports": ("delete", 365)}
    wanted |= {"directives": ("delete", None), "ratings": ("compact", None), "operations": ("delete", 90)}
    with closing(kafka_log(f"{kafka.url}/{name}")) as log:
        for topic, (cleanup, days) in wanted.items():
            log.create(topic, 1)
            log.create(topic, 1)
            found = described(admin, f"{name}.{topic}")
            assert set(found["cleanup.policy"].split(",")) == set(cleanup.split(","))
            assert found["retention.ms"] == ("-1" if days is None else str(days * 86_400_000))
            assert found["message.timestamp.type"] == "LogAppendTime"


@pytest.mark.parametrize(
    ("topic", "setting", "value", "needed"),
    [
        ("transitions", "message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("transitions", "cleanup.policy", "compact", "delete"),
        ("policies", "cleanup.policy", "delete", "compact"),
        ("mails", "cleanup.policy", "compact,delete", "compact"),
        ("tasks", "retention.ms", "86400000", "-1"),
        ("directives", "retention.ms", "31536000000", "-1"),
        ("reports", "unclean.leader.election.enable", "true", "false"),
    ],
)
def test_a_topic_whose_settings_break_a_law_is_refused(
    kafka: Kafka, admin: AdminClient, name: str, topic: str, setting: str, value: str, needed: str
) -> None:
    with closing(kafka_log(f"{kafka.url}/{name}")) as log:
        good = {"tasks": {"retention.ms": "-1"}, "policies": {"cleanup.policy": "compact"}}.get(topic, {})
        config = {"message.timestamp.type": "LogAppendTime", **good, setting: value}
        done(admin.create_topics([NewTopic(f"{name}.{topic}", 1, config=config)]))
        _until_visible(lambda: log.topic(topic) and None)
        assert f"{setting} is {value}" in log.faults([topic])[topic]
        with pytest.raises(SettingsError) as refused:
            _until_visible(lambda: log.create(topic, 1))
        assert f"{setting} is {value}, {needed} is needed" in str(refused.value)
        assert f"--add-config {setting}=" in str(refused.value)
        entry = ConfigEntry(setting, needed, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource("topic", f"{name}.{topic}", incremental_configs=[entry])
        done(admin.incremental_alter_configs([resource]))
        _until_visible(lambda: log.create(topic, 1), SettingsError)


def test_a_message_says_itself_whose_time_it_carries(
    kafka: Kafka, admin: AdminClient, log: KafkaLog, name: str
) -> None:
    """Whatever the topic's setting was or is: a producer's word is no append time."""
    log.create(name, 1)
    producer = Producer({"bootstrap.servers": parse_cluster(parse_url(kafka.url)).servers})
    for kind in ("LogAppendTime", "CreateTime", "LogAppendTime"):
        entry = ConfigEntry("message.timestamp.type", kind, incremental_operation=AlterConfigOpType.SET)
        done(admin.incremental_alter_configs([ConfigResource("topic", name, incremental_configs=[entry])]))
        _until_visible(lambda kind=kind: _require(bool(log.faults([name])) == (kind == "CreateTime")), SettingsError)
        time.sleep(0.2)  # the topic's leader learns of it a moment later than who answers
        producer.produce(name, b"x", timestamp=5_000)
        producer.flush(10)
    now_ms = time.time() * 1000
    first, second, third = log.read(name, 0, 0, 10).append_ts.tolist()
    assert second == -1
    assert now_ms - 60_000 < first <= third <= now_ms


def _require(seen: bool) -> None:
    if not seen:
        raise SettingsError("not yet")


def _until_visible(call: Callable[[], None], until: type[HeadraceError] = UnknownTopicError) -> None:
    """What an administrator changes reaches the broker a moment later."""
    for _ in range(100):
        try:
            return call()
        except until:
            time.sleep(0.05)
    return call()


def test_properties_of_the_driver_pass_through(kafka: Kafka, name: str) -> None:
    with closing(kafka_log(f"{kafka.url}?message.max.bytes=2000&compression.type=none")) as log:
        log.create(name, 1)
        log.send([Record(name, b"k", bytes(1000))])
        with pytest.raises(SettingsError, match=r"message\.max\.bytes"):
            log.send([Record(name, b"k", bytes(3000))])


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("?no.such.property=1", r'No such configuration property: "no.such.property"'),
        ("?isolation.level=read_uncommitted", "isolation.level can't be set"),
        ("?acks=1", "acks can't be set"),
        ("/a%20b", "prefix 'a b'"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(kafka: Kafka, rest: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        kafka_log(f"{kafka.url}{rest}")


def test_a_url_without_a_host_is_refused() -> None:
    with pytest.raises(SettingsError, match="kafka://host:9092"):
        kafka_log("kafka:///prefix")


def test_the_settings_open_it(kafka: Kafka, name: str) -> None:
    settings = read_settings({"log": f"{kafka.url}/{name}?client.id=test"})
    unknown = pytest.raises(UnknownTopicError, match=rf"{name}\.transitions.*headrace init")
    with open_services(settings) as services, unknown:
        services.log.topic("transitions")


def test_nothing_is_left_to_the_collector_of_garbage(url: str, name: str) -> None:
    """It may run in a thread of the driver, which ends the process when its own client is destroyed there."""
    gc.collect()
    gc.disable()
    try:
        log = kafka_log(url)
        log.create(name, 1)
        subscription = log.subscribe(name, name)
        poll_until(subscription, ended(1))
        subscription.commit({0: Commit(0)}, numbered(name, 1))
        log.send(numbered(name, 1))
        log.read(name, 0, 0, 1)
        left = [weakref.ref(one) for one in (log, log._admin, subscription)]
        subscription.close()
        log.close()
        del log, subscription
        assert [one() for one in left] == [None, None, None]
    finally:
        gc.enable()


# --- brokers that fail


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid:9092"])
def test_a_broker_that_cannot_be_reached_is_named_soon(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    be_impatient(monkeypatch)
    started_s = time.monotonic()
    with pytest.raises(UnavailableError, match=rf"no answer from kafka://{host}.*is it running"):
        kafka_log(f"kafka://{host}")
    assert time.monotonic() - started_s < 4


def test_a_wrong_password_is_said_at_once_and_not_repeated_in_the_message(hurt: HurtKafka) -> None:
    options = "?security.protocol=SASL_PLAINTEXT"
    where = f"{hurt.host}:{hurt.sasl_port}"
    with closing(kafka_log(f"kafka://alice:right%3Ap%40ss@{where}{options}")) as log:
        log.create("with-password", 1)
        log.send([Record("with-password", b"k", b"v")])
        assert log.read("with-password", 0, 0, 10).values == [b"v"]
    started_s = time.monotonic()
    with pytest.raises(SettingsError, match=r"(?i)authentication.*check user and password") as refused:
        kafka_log(f"kafka://alice:wrong-secret@{where}{options}")
    assert "wrong-secret" not in str(refused.value)
    assert time.monotonic() - started_s < 3


def commit_in_the_end(subscription: Subscription, commits: dict[int, Commit], outputs: list[Record]) -> None:
    for _ in range(100):
        try:
            return subscription.commit(commits, outputs)
        except UnavailableError:
            time.sleep(0.1)
    return subscription.commit(commits, outputs)


def test_an_outage_longer_than_a_session_loses_nothing(
    hurt: HurtKafka, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that was begun before goes through, once; then the member joins again and goes on."""
    with closing(
        kafka_log(f"{hurt.url}?session.timeout.ms=5000&heartbeat.interval.ms=300&transaction.timeout.ms=2000")
    ) as log:
        log.create(name, 1)
        log.create(f"{name}-out", 1)
        log.send(numbered(name, 5))
        subscription = log.subscribe(name, name)
        poll_until(subscription, ended(1))
        subscription.commit({0: Commit(3)}, [Record(f"{name}-out", b"k", b"before")])
        hurt.kill()
        be_impatient(monkeypatch)
        with pytest.raises(UnavailableError, match="is it running"):
            log.bounds(name, 0)
        wanted = {0: Commit(5, "again")}, [Record(f"{name}-out", b"k", b"after")]
        ends_s = time.monotonic() + 6
        while time.monotonic() < ends_s:
            with pytest.raises(UnavailableError):
                subscription.commit(*wanted)
        hurt.start()
        commit_in_the_end(subscription, *wanted)
        events = poll_until(subscription, lambda events: bool(assignments(events)))
        assert events[0] == Revoked(0)
        assert assignments(events)[0].commit == Commit(5, "again")
        log.send(numbered(name, 5, start=5))
        assert values(poll_until(subscription, ended(1))) == {0: [b"5", b"6", b"7", b"8", b"9"]}
        subscription.close()
        assert log.read(f"{name}-out", 0, 0, 10).values == [b"before", b"after"]


def test_a_commit_during_a_freeze_comes_about_once(hurt: HurtKafka, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(kafka_log(hurt.url)) as log:
        log.create(name, 1)
        log.create(f"{name}-out", 1)
        with closing(log.subscribe(name, name)) as subscription:
            poll_until(subscription, assigned(1))
            subscription.commit({0: Commit(1)})
            be_impatient(monkeypatch)
            end = kafka_transactions.Transactions._end

            def freeze(self, *arguments):
                hurt.pause()
                end(self, *arguments)

            wanted = {0: Commit(2)}, [Record(f"{name}-out", b"k", b"once")]
            monkeypatch.setattr(kafka_transactions.Transactions, "_end", freeze)
            try:
                with pytest.raises(UnavailableError):
                    subscription.commit(*wanted)
            finally:
                hurt.resume()
                monkeypatch.setattr(kafka_transactions.Transactions, "_end", end)
            commit_in_the_end(subscription, *wanted)
        assert log.committed(name, name) == {0: Commit(2)}
        assert log.read(f"{name}-out", 0, 0, 10).values == [b"once"]


def test_a_member_that_only_polls_goes_on_after_an_outage(hurt: HurtKafka, name: str) -> None:
    with closing(kafka_log(f"{hurt.url}?session.timeout.ms=2000&heartbeat.interval.ms=300")) as log:
        log.create(name, 1)
        member = Member(log.subscribe(name, name))
        poll_all([member], lambda: member.partitions == {0})
        hurt.kill()
        ends_s = time.monotonic() + 3
        while time.monotonic() < ends_s:
            with suppress(UnavailableError):
                member.poll()
        hurt.start()
        log.send(numbered(name, 3))
        deadline = time.monotonic() + 20
        while values(member.events).get(0) != [b"0", b"1", b"2"]:
            assert time.monotonic() < deadline, member.events
            with suppress(UnavailableError):
                member.poll()
        member.subscription.commit({0: Commit(3)})
        member.subscription.close()
