"""Learn and explain on Kafka, Cassandra and Redis, killed with SIGKILL at random points."""

import hashlib
import json
import random
import time
from dataclasses import dataclass

import pytest
from fault_stack import Stack, told, wait_until

from headrace.learners.checkpoint import unpack

WINDOWS = 6
"""Of 6,400 transitions each: four make a version, and the rest is in the last checkpoint alone."""
KILLS = 3
"""In a round, which ends with all done and compared; the next one begins as if the job had never run."""
ROUNDS = pytest.mark.parametrize("rounds", [1, pytest.param(7, marks=pytest.mark.long)])
EXPLAIN = ("run", "explain", "--interval-ms", "7200000")
LEARN = ("run", "learn", "--gate", "none")


@dataclass
class Learned:
    """A stack that was ingested, learned from and explained undisturbed, with a policy store in files."""

    stack: Stack
    store: str
    learn_s: float


@pytest.fixture(scope="module")
def undisturbed(new_stack):
    return learned(new_stack(), WINDOWS)


def learned(stack, windows):
    """Fill a new stack, and learn from it into a policy store of its own."""
    stack.initialise()
    stack.run("run", "fleet", "--windows", str(windows), "--every", "0")
    stack.run("run", "ingest", "--until-caught-up")
    stack.run("learner", "set", "cloud", "candidate_rows=25600", "--reason", "four windows, however they are read")
    store = f"file://{stack.folder}/undisturbed"
    began_s = time.monotonic()
    stack.run(*LEARN, "--until-caught-up", "--policies", store)
    return Learned(stack, store, time.monotonic() - began_s)


def killed(stack, command, output, longest_s, rng):
    """Kill it at random points, the second time soon after its first output; then let it finish.

    Returns how many outputs there were after each kill.
    """
    found = []
    for kill in range(KILLS):
        job = stack.start(*command).ready()
        if kill == 1:
            wait_until(lambda: stack.read(output), 120, job.told)
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


@ROUNDS
def test_explain_killed(undisturbed, rounds):
    """Every report comes once, and says what an undisturbed run's says."""
    stack, command = undisturbed.stack, (*EXPLAIN, "--policies", undisturbed.store)
    began_s = time.monotonic()
    stack.run(*command, "--until-caught-up")
    took_s = time.monotonic() - began_s
    expected = reports(stack)
    assert len([key for key in expected if b".version." in key]) == 1
    assert len([key for key in expected if b".interval." in key]) > 1
    after_kills = []
    for number in range(rounds):
        stack.forget("explain", "reports")
        after_kills.append(killed(stack, command, "reports", took_s / 3, random.Random(number)))
        assert reports(stack) == expected
    told("explain killed", reports=len(expected), after_kills=after_kills, undisturbed_s=took_s)
    stack.forget("explain", "reports")


@ROUNDS
def test_learn_killed(undisturbed, rounds):
    """It resumes to the weights of an undisturbed run: versions, their lineage, what was announced, the checkpoint."""
    stack = undisturbed.stack
    expected = policies(stack, undisturbed.store)
    assert [row["version"] for row in expected[0]] == [1]
    after_kills = []
    for number in range(rounds):
        stack.forget("learn", "policies")
        store = f"{stack.urls['policies']}{number}"
        stack.run("init", "--policies", store)
        command = (*LEARN, "--policies", store)
        after_kills.append(killed(stack, command, "policies", undisturbed.learn_s / 4, random.Random(number)))
        assert policies(stack, store) == expected
    told("learn killed", versions=1, after_kills=after_kills, undisturbed_s=undisturbed.learn_s)


def policies(stack, store):
    """The versions, the announcements but for their time, and the checkpoint's hash."""
    listed = [json.loads(line) for line in stack.run("policy", "list", "--json", "--policies", store).splitlines()]
    announced = [json.loads(message.value()) | {"ts": 0} for message in stack.read("policies")]
    with stack.services(policies=store) as services:
        lineage = [version.lineage for version in services.policies.versions("cloud")]
        arrays, meta = unpack(services.policies.load("cloud"))
    weights = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    return listed, announced, lineage, weights, _timeless(meta)


def _timeless(found):
    """What a checkpoint says, but for when versions were announced, and which of that was done by then."""
    if isinstance(found, dict):
        return {name: _timeless(value) for name, value in found.items() if name not in {"ts", "pending", "seen"}}
    return [_timeless(value) for value in found] if isinstance(found, list) else found
