"""What can't work is said in one line that tells what to do, soon, with exit code 1."""

import re
import subprocess
import time
from pathlib import Path

import pytest
from cassandra.cluster import Cluster
from fault_load import TASK
from fault_stack import HEADRACE, told

from local_servers import Cassandra, Kafka, Redis, ports, start, temporary

SOON_S = 60
"""Rather than to try for ever. A driver waits 5 s for an answer, and on a busy machine to load torch takes 20 s."""
NOBODY = "127.0.0.1:1"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


class LockedKafka(Kafka):
    """Asks for a password, on a listener of its own."""

    def configure(self, template, **values):
        config = super().configure(template, **values)
        self.locked_port = ports.free_port(taken=(self.port, self.controller_port))
        text = config.read_text()
        for key in ("listeners", "advertised.listeners"):
            text = text.replace(f"\n{key}=", f"\n{key}=SASL://{self.host}:{self.locked_port},")
        text = text.replace("protocol.map=", "protocol.map=SASL:SASL_PLAINTEXT,")
        text += "\nsasl.enabled.mechanisms=PLAIN\n"
        text += f'listener.name.sasl.plain.sasl.jaas.config={PLAIN} required user_alice="right";\n'
        config.write_text(text)
        return config


class LockedRedis(Redis):
    """Asks for a password."""

    def configure(self, template, **values):
        config = super().configure(template, **values)
        config.write_text(config.read_text() + "\nrequirepass right\n")
        return config

    def answers(self):
        return Path(f"/proc/{self.pid}").exists() and not ports.is_free(self.port)


class LockedCassandra(Cassandra):
    """Asks for a password."""

    def configure(self, template, **values):
        config = super().configure(template, **values)
        config.write_text(config.read_text().replace("AllowAllAuthenticator", "PasswordAuthenticator"))
        return config

    def answers(self):
        return not ports.is_free(self.port)


@pytest.fixture(scope="module")
def locked():
    with temporary() as folder:
        servers = LockedKafka(folder / "kafka"), LockedCassandra(folder / "cassandra"), LockedRedis(folder / "redis")
        for server in servers[:2]:
            server.quick = True
        start(*servers)
        yield servers


@pytest.fixture(scope="module")
def stack(new_stack):
    made = new_stack("")
    made.initialise([TASK])
    return made


def refusal(stack, *arguments, job="ingest", **urls):
    """Run a job with settings that can't work; returns the one line that it says."""
    environment = stack.environment | {f"HEADRACE_{name.upper()}": url for name, url in urls.items()}
    began_s = time.monotonic()
    done = subprocess.run(
        [HEADRACE, "run", job, *arguments],
        env=environment,
        cwd=stack.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=SOON_S,
    )
    took_s = time.monotonic() - began_s
    said = [line for line in done.stderr.splitlines() if " INFO " not in line]
    told(f"{took_s:.1f} s", said=said[-1] if said else "")
    assert done.returncode == 1, done.stderr
    assert len(said) == 1, done.stderr
    assert said[0].startswith("headrace: "), done.stderr
    assert "wrong-secret" not in said[0]
    return said[0]


def test_nobody_listens(stack):
    assert re.search(r"no answer from kafka://127\.0\.0\.1:1 .*is it running", refusal(stack, log=f"kafka://{NOBODY}"))
    where = f"cassandra://{NOBODY}/headrace"
    assert "check host and port, and that it runs" in refusal(stack, index=where, policies=where)


def test_no_such_host(stack):
    assert "is it running" in refusal(stack, log="kafka://no-such-host.invalid")
    where = "cassandra://no-such-host.invalid/headrace"
    assert "no such host: check the name" in refusal(stack, index=where, policies=where)


def test_a_wrong_password(stack, locked):
    kafka, cassandra, redis = locked
    sasl = f"kafka://alice:wrong-secret@{kafka.host}:{kafka.locked_port}?security.protocol=SASL_PLAINTEXT"
    assert "check user and password" in refusal(stack, log=sasl)
    where = f"cassandra://alice:wrong-secret@{cassandra.host}:{cassandra.port}/headrace"
    assert "access is refused: check the user and the password" in refusal(stack, index=where, policies=where)
    where = where.replace("alice:wrong-secret@", "")
    assert "access is refused: check the user and the password" in refusal(stack, index=where, policies=where)
    for credentials in (":wrong-secret@", ""):
        cache = f"redis://{credentials}{redis.host}:{redis.port}"
        assert "check the user and the password" in refusal(stack, cache=cache)


@pytest.mark.parametrize("job", ["ingest", "fleet", "digest"])
def test_nothing_was_initialised(stack, servers, job):
    """A log without topics, and an index without a keyspace."""
    kafka, cassandra, _ = servers
    assert "headrace init" in refusal(stack, job=job, log=f"{kafka.url}/empty")
    if job != "digest":
        where = f"cassandra://{cassandra.host}:{cassandra.port}/empty"
        assert "the keyspace does not exist: create it with `headrace init`" in refusal(
            stack, job=job, index=where, policies=where
        )


@pytest.mark.parametrize("job", ["learn", "explain"])
def test_a_keyspace_of_another_log(stack, new_stack, servers, job):
    other = new_stack("")
    other.run("init", "--partitions", "2")
    said = refusal(stack, job=job, index=other.urls["index"], policies=other.urls["policies"])
    assert "give the log and the index that belong together" in said


def test_a_keyspace_of_another_layout(new_stack, servers):
    stack = new_stack("")
    stack.run("init", "--partitions", "2")
    _, cassandra, _ = servers
    with Cluster([cassandra.host], port=cassandra.port, protocol_version=4) as cluster:
        session = cluster.connect(stack.prefix)
        (layout,) = session.execute("SELECT value FROM meta WHERE name = 'layout'").one()
        changed = layout.replace('"rules_version":2', '"rules_version":7')
        assert changed != layout
        session.execute("UPDATE meta SET value = %s WHERE name = 'layout' IF EXISTS", (changed,))
    assert re.search(r"written under rules_version 7, this headrace has 2: use the headrace that", refusal(stack))
