"""`headrace bench` on real servers: topics, keyspace and keys of its own, which are gone in the end."""

import bench_servers_live as live
import pytest
from cassandra.cluster import Cluster
from confluent_kafka.admin import AdminClient
from redis import Redis as Client

from headrace.pipelines.bench import ingest as bench_ingest
from headrace.pipelines.bench import lookup as bench_lookup
from headrace.pipelines.settings import Settings, read_settings


@pytest.fixture
def settings(kafka, cassandra, redis) -> Settings:
    return read_settings({"log": f"{kafka.url}/mine", "index": cassandra.url, "cache": f"{redis.url}?prefix=mine:"})


@pytest.fixture
def names(kafka, cassandra, redis):
    """What there is on the servers: topics, groups, keyspaces, keys."""

    def find() -> tuple[set[str], ...]:
        admin = AdminClient({"bootstrap.servers": kafka.url.removeprefix("kafka://")})
        topics = set(admin.list_topics(timeout=10).topics)
        groups = {group.group_id for group in admin.list_consumer_groups(request_timeout=10).result().valid}
        with Cluster([cassandra.host], port=cassandra.port) as cluster:
            cluster.connect()
            keyspaces = set(cluster.metadata.keyspaces)
        with Client(host=redis.host, port=redis.port) as client:
            return topics - {"__consumer_offsets", "__transaction_state"}, groups, keyspaces, set(client.keys())

    return find


def test_a_bench_of_ingest_leaves_the_servers_as_they_were(settings, names, redis):
    with Client(host=redis.host, port=redis.port) as client:
        client.set("mine:entry", b"kept")
    before = names()
    load = bench_ingest.Load(rows=40_000, warm_up=10_000)
    found = {record["depth"]: record for record in bench_ingest.measure(settings, load)}
    assert names() == before
    assert found["whole"]["chunks"] > 0
    assert set(found["whole"]["server_cpu_s_per_million"]) == {"kafka", "cassandra", "redis"}


def test_a_bench_of_lookups_leaves_the_servers_as_they_were(settings, names):
    before = names()
    asked = bench_lookup.Lookups(chunks=300, seconds=0.2)
    found = {(record["cache"], record["ends_with"]): record for record in bench_lookup.measure(settings, asked)}
    assert names() == before
    assert found["far", "rows"]["hit_rate"] == 1.0
    assert found["far", "rows"]["entries_held"] == found["far", "rows"]["chunks"]
    assert found["none", "payload"]["hit_rate"] == 0.0


def test_what_a_failed_bench_has_made_is_removed_as_well(settings, names):
    before = names()
    records = bench_ingest.measure(settings, bench_ingest.Load(rows=1_000, warm_up=0))
    next(records)
    with pytest.raises(RuntimeError, match="stopped by a test"):
        records.throw(RuntimeError("stopped by a test"))
    assert names() == before


@pytest.mark.long
@pytest.mark.parametrize(("rows_per_s", "minutes"), [(100_000, 20)])
def test_soak(settings, rows_per_s, minutes):
    """A stream that goes on and on, compaction included: ingest keeps up, and holds no more at the end than early."""
    found = live.soak(settings, rows_per_s, minutes)["minutes"]
    steady = found[1:]
    assert max(minute["lag_rows"] for minute in steady) < 10 * rows_per_s
    assert max(minute["memory_mb"] for minute in steady) < 1.2 * found[0]["memory_mb"]
    assert min(minute["rows_per_s"] for minute in steady) > 0.9 * rows_per_s
