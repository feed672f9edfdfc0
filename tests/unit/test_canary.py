"""Which agents try a canary's version, and when their returns say enough."""

import msgspec
import pytest

from headrace.schemas.canary import Canary, in_share
from headrace.schemas.policy_versions import acts_by
from headrace.schemas.records import ServingPolicy

AGENTS = [f"agent-{number:04d}" for number in range(4_000)]


def serving(canary=None):
    return ServingPolicy("cloud", 3, "3", "gate", "it won", 0, canary=canary)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_a_share_of_the_agents_acts_by_the_canary(share):
    record = serving(Canary(4, "4", share, windows=10))
    count = sum(acts_by(record, agent) == 4 for agent in AGENTS)
    assert count == pytest.approx(share * len(AGENTS), abs=4 * (len(AGENTS) * share * (1 - share)) ** 0.5)
    assert {acts_by(record, agent) for agent in AGENTS} == {3, 4}


def test_without_a_canary_all_act_by_what_serves():
    assert {acts_by(serving(), agent) for agent in AGENTS} == {3}


def test_a_greater_share_only_adds_agents_and_another_version_has_others():
    few, more, other = (
        {agent for agent in AGENTS if in_share(Canary(version, "", share, windows=1), "cloud", agent)}
        for version, share in ((4, 0.1), (4, 0.2), (5, 0.1))
    )
    assert few < more
    assert len(few & other) < len(few) / 2


def test_which_agents_try_it_never_changes():
    """Agents in other languages compute it too: of the first ten these, by murmur2 of Java's Kafka clients."""
    canary = Canary(4, "", 0.3, windows=1)
    assert [number for number in range(10) if in_share(canary, "cloud", AGENTS[number])] == [6]


def test_a_share_beyond_a_half_is_refused():
    record = msgspec.json.encode(serving(Canary(4, "4", 0.6, windows=10)))
    with pytest.raises(msgspec.ValidationError, match=r"share"):
        msgspec.json.decode(record, type=ServingPolicy)
