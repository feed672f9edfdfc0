"""Learn and explain on Kafka, Cassandra and Redis, killed with SIGKILL at random points."""

import functools
import hashlib
import json
import random
import time
from dataclasses import dataclass

import pytest
from fault_stack import Stack, told, wait_until

from headrace.learners.checkpoint import unpack

FORMS = pytest.mark.parametrize(("windows", "kills"), [(6, 3), pytest.param(13, 20, marks=pytest.mark.long)])
"""windows: of 6,400 transitions each. Four make a version; the rest is in the last checkpoint alone."""
EXPLAIN = ("run", "explain", "--interval-ms", "7200000")
LEARN = ("run", "learn", "--gate", "none")


@dataclass
class Learned:
    """A stack that was ingested, learned from and explained undisturbed, with a policy store in files."""

    stack: Stack
    store: str
    versions: int
    learn_s: float


@pytest.fixture(scope="module")
def learned(new_stack):
    """Give a function that makes one; the same for the same windows."""

    @functools.cache
    def learn(windows):
        stack = new_stack()
        stack.initialise()
        stack.run("run", "fleet", "--windows", str(windows), "--every", "0")
        stack.run("run", "ingest", "--until-caught-up")
        store = f"file://{stack.folder}/undisturbed"
        began_s = time.monotonic()
        stack.run(*LEARN, "--until-caught-up", "--policies", store)
        return Learned(stack, store, windows // 4, time.monotonic() - began_s)

    return learn


def killed(stack, command, kills, output, expected, longest_s):
    """Kill it at random points, every other time soon after its first output; then let it finish.

    Returns how many outputs there were after each kill.
    """
    rng = random.Random(kills)
    found = []
    for kill in range(kills):
        before = len(stack.read(output))
        job = stack.start(*command).ready()
        if kill % 2 and before < expected:
            wait_until(lambda before=before: len(stack.read(output)) > before, 120, job.told)
        time.sleep(rng.uniform(0, longest_s))
        job.kill()
        found.append(len(stack.read(output)))
        assert "Traceback" not in job.told(), job.told()
    stack.run(*command, "--until-caught-up")
    return found


def reports(stack):
    """Each report by its id; none may come twice."""
    found = stack.read("reports")
    assert len({message.key() for message in found}) == len(found), "a report came twice"
    return {message.key(): message.value() for message in found}


@FORMS
def test_explain_killed(learned, windows, kills):
    """Every report comes once, and says what an undisturbed run's says."""
    undisturbed = learned(windows)
    stack, command = undisturbed.stack, (*EXPLAIN, "--policies", undisturbed.store)
    began_s = time.monotonic()
    stack.run(*command, "--until-caught-up")
    undisturbed_s = time.monotonic() - began_s
    expected = reports(stack)
    stack.forget("explain", "reports")
    after_kills = killed(stack, command, kills, "reports", len(expected), undisturbed_s / 3)
    told("explain killed", kills=kills, after_kills=after_kills, reports=len(expected), undisturbed_s=undisturbed_s)
    found = reports(stack)
    stack.forget("explain", "reports")
    assert found == expected
    assert len([key for key in expected if b".version." in key]) == undisturbed.versions
    assert len([key for key in expected if b".interval." in key]) > 1
    assert min(after_kills) < len(expected), "no kill came before the last report"


@FORMS
def test_learn_killed(learned, windows, kills):
    """It resumes to the weights of an undisturbed run: versions, their lineage, what was announced, the checkpoint."""
    undisturbed = learned(windows)
    stack = undisturbed.stack
    expected = policies(stack, undisturbed.store)
    assert [row["version"] for row in expected[0]] == [*range(1, undisturbed.versions + 1)]
    stack.forget("learn", "policies")
    after_kills = killed(stack, LEARN, kills, "policies", undisturbed.versions, undisturbed.learn_s / 4)
    told(
        "learn killed",
        kills=kills,
        after_kills=after_kills,
        versions=undisturbed.versions,
        undisturbed_s=undisturbed.learn_s,
    )
    assert policies(stack, stack.urls["policies"]) == expected
    assert after_kills[-1], "no kill left a checkpoint to go on from"


def policies(stack, store):
    """The versions, the announcements but for their time, and the checkpoint's hash."""
    listed = [json.loads(line) for line in stack.run("policy", "list", "--json", "--policies", store).splitlines()]
    announced = [json.loads(message.value()) | {"ts": 0} for message in stack.read("policies")]
    with stack.services(policies=store) as services:
        lineage = [version.lineage for version in services.policies.versions("cloud")]
        arrays, meta = unpack(services.policies.load("cloud"))
    # A version that was announced with the last checkpoint is in it with its time; else it holds no clock's.
    meta["progress"]["pending"] = []
    weights = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    return listed, announced, lineage, weights, meta
