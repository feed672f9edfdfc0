import re

import msgspec
import numpy as np
import pytest
from codec_examples import ARM, LAYOUT, SPECS, T0, TASKS, accepted, check, message, raw_message, rejected

from headrace.schemas.checker import known_task
from headrace.schemas.codec import heartbeat
from headrace.schemas.records import MAX_TS_MS
from headrace.schemas.rules import MAX_STEP, broken, first_broken, rules_for

NOW = T0 + 1_000
LATEST = NOW + 300_000

BAD = [
    ("agent_id", message(agent_id=""), r"agent_id '' does not match \^\[A-Za-z0-9._-\]"),
    ("agent_id", message(agent_id="a b"), "agent_id 'a b' does not match"),
    ("agent_id", message(agent_id="é"), "agent_id 'é' does not match"),
    ("agent_id", message(agent_id="a\n"), r"agent_id 'a\\n' does not match"),
    ("agent_id", message(agent_id="a" * 65), "agent_id 'a{65}' does not match"),
    ("agent_id", message(agent_id="a" * 9_000), "agent_id 'a{80}' does not match"),
    ("agent_id", message(agent_id="\x00"), "agent_id"),
    ("episode_id", message(episode_id="e/1"), "episode_id 'e/1' does not match"),
    ("step", message(step=-1), f"step is -1; 0 to {MAX_STEP} are allowed"),
    ("step", message(step=MAX_STEP + 1), f"step is {MAX_STEP + 1}; 0 to"),
    ("ts", message(ts=-1), f"ts is -1; 100000000000 to {MAX_TS_MS} are allowed"),
    ("ts", message(ts=T0 // 1000), r'it looks like seconds, send ts \* 1000; if so old a time is meant.*"oldest_ms"'),
    ("ts", message(ts=99_999_999_999), "it looks like seconds"),
    ("ts", message(ts=0), "allowed, milliseconds since 1970: if so old a time is meant, or a clock from 0 on, set"),
    ("ts", message(ts=T0 * 1000 + 1), "it looks like microseconds, send ts // 1000$"),
    ("ts", message(ts=T0 * 10**6 + 1), "it looks like nanoseconds, send ts // 1000000$"),
    ("ts", message(ts=MAX_TS_MS + 1), "ts is 253402300800000"),
    ("ts", message(ts=2**63 - 1), "ts is 9223372036854775807"),
    ("ts", message(ts=-(2**63)), "ts is -9223372036854775808"),
    ("clock", message(ts=LATEST + 1), "is 300001 ms ahead of the log's append time; 300000 are allowed$"),
    ("clock", message(ts=NOW + 7_199_500), "300000 are allowed: is it a local time\\? UTC is expected$"),
    ("obs_finite", raw_message(obs="[1, 1e39]"), r"^obs\[1\] is Infinity, or too large for float32"),
    ("next_obs_finite", raw_message(next_obs="[-1e39, 1]"), r"next_obs\[0\] is -Infinity, or too large"),
    ("obs_finite", raw_message(obs="[NaN, 1]"), r"obs\[0\] is NaN: a finite number is expected"),
    ("obs_finite", b"[" + message() + b"," + raw_message(obs="[NaN, 1]") + b"]", r"^obs\[0\] is NaN"),
    ("next_obs_finite", raw_message(next_obs="[1, -Infinity]"), r"next_obs\[1\] is -Infinity"),
    ("reward_finite", raw_message(reward="NaN"), "reward is NaN: a finite number"),
    ("reward_finite", raw_message(reward="-Infinity"), "reward is -Infinity"),
    ("reward_terms_finite", raw_message("arm", reward_terms='{"cost": NaN}'), "reward_terms.cost is NaN"),
    ("log_prob_finite", raw_message(log_prob="NaN"), "log_prob is NaN"),
    ("action", raw_message("arm", action="[0.5, NaN]"), r"action\[1\] is NaN"),
    ("reward_finite", raw_message(reward="3.4028236e38"), "reward is Infinity, or too large"),
    ("reward_terms_finite", raw_message("arm", reward_terms='{"cost": 1e39}'), r"reward_terms.cost is Infinity"),
    ("log_prob_finite", raw_message(log_prob="-1e300"), "log_prob is -Infinity"),
    (
        "log_prob",
        message(log_prob=0.35667494),
        "log_prob is 0.3566749.; a discrete action's is at most 0: the logarithm",
    ),
    ("log_prob", message(log_prob=0.001), "log_prob is 0.001"),
    ("action", message(action="d"), "action is 'd'; the task's are a, b, c"),
    ("action", message(action=3), "action is 3; 0 to 2 are allowed"),
    ("action", message(action=-1), "action is -1; 0 to 2 are allowed"),
    ("action", message("arm", action=[1.5, 0.875]), r"action\[0\] is 1.5; -1.0 to 1.0 are allowed"),
    ("action", message("arm", action=[0, 0.5]), r"action\[1\] is 0.5; 0.7 to 1.1 are allowed"),
    ("action", raw_message("arm", action="[0, 1e39]"), r"action\[1\] is Infinity"),
    ("obs_bounds", message("arm", obs=[0, 11, 1]), r"obs\[1\] is 11.0; -10.0 to 10.0 are allowed"),
    ("next_obs_bounds", message("arm", next_obs=[-10.5, 0, 1]), r"next_obs\[0\] is -10.5; -10.0 to"),
]


@pytest.mark.parametrize(("rule", "value", "reason"), BAD, ids=[f"{i}-{case[0]}" for i, case in enumerate(BAD)])
def test_broken(rule, value, reason):
    """Each rule rejects what breaks it, by its name, with the value and the limit."""
    found, why = rejected(value)
    assert found == rule
    assert re.search(reason, why), why


def test_every_rule_is_shown_broken():
    names = {rule.name for task in TASKS.values() for rule in task.rules}
    assert names == {rule for rule, _, _ in BAD}


GOOD = {
    "longest names": message(agent_id="A-z_0.9" * 9 + "x", episode_id="."),
    "first step": message(step=0),
    "the oldest time": message(ts=100_000_000_000),
    "a certain action": message(log_prob=0.0),
    "a certain action, as float32 rounds": message(log_prob=1e-5),
    "a density above 1": message("arm", log_prob=2.3),
    "last step": message(step=MAX_STEP),
    "as far ahead as is allowed": message(ts=LATEST),
    "the greatest float32": raw_message(obs="[3.4028235e38, -3.4028235e38]"),
    "the last action": message(action=2),
    # .7 as a float32 is a little less than .7, and 1.1 a little more: both count as the bounds that they are.
    "at the bounds": message("arm", action=[-1, 0.7], obs=[-10, 10, 0.7], next_obs=[10, -10, 1.1]),
    "at the other bounds": message("arm", action=[1, 1.1]),
}


@pytest.mark.parametrize("value", GOOD.values(), ids=GOOD)
def test_at_the_edge(value):
    assert len(accepted(value)) == 1


def test_a_name_that_joins_two():
    """Names are matched one by one: a newline within one makes it bad, whatever stands beside it."""
    checked = check([message(agent_id="a\nb"), message(agent_id="b"), message(agent_id="c")])
    assert [r.position for r in checked.rejected] == [0]


def test_the_first_rule_names_the_message():
    """A message that breaks several rules is rejected once, by the first in the rules' order of its first bad row."""
    checked = check([message(agent_id="?", step=-1, action=9)])
    assert [(r.position, r.rule) for r in checked.rejected] == [(0, "agent_id")]
    pair = b"[" + message(action=9) + b"," + message(step=-1) + b"]"
    assert rejected(pair)[0] == "action"


def test_one_bad_row_rejects_its_message_only():
    values = [message(step=i) for i in range(5)]
    values[2] = b"[" + message(step=2) + b"," + message(step=-2) + b"]"
    checked = check(values)
    assert checked.batches[0].step.tolist() == [0, 1, 3, 4]
    assert [(r.position, r.rule) for r in checked.rejected] == [(2, "step")]


@pytest.mark.parametrize("task", SPECS)
def test_masks_agree_with_a_plain_reading(task):
    """The vector masks say of each row what a loop over its values says."""
    rng = np.random.default_rng(1)
    batch = accepted(b"[" + b",".join(message(task) for _ in range(50)) + b"]")
    odd = np.array([np.nan, np.inf, -np.inf, 0.7, 1.1, -0.0, 1e-45, 20], np.float32)
    for name in ("obs", "next_obs", "reward", "log_prob", "action"):
        column = getattr(batch, name)
        if column.dtype == np.float32 and column.flags.writeable:
            places = rng.random(column.shape) < 0.1
            column[places] = rng.choice(odd, int(places.sum()))
    append_ts = np.full(50, NOW)
    rules = rules_for(SPECS[task], LAYOUT)
    first = {}
    for number, rule in enumerate(rules):
        mask = broken(rule, batch, append_ts)
        plain = [_breaks(rule, batch, row) for row in range(50)]
        assert (mask.tolist() if mask is not None else [False] * 50) == plain, rule
        for row in np.flatnonzero(plain).tolist():
            first.setdefault(row, number)
    assert first_broken(rules, batch, append_ts) == sorted(first.items())


def _breaks(rule, batch, row):
    if rule.kind == "pattern":
        return False
    values = np.atleast_1d(getattr(batch, rule.column)[row])
    for place, value in enumerate(values):
        if (rule.kind == "finite" and not np.isfinite(value)) or (rule.kind == "finite_or_absent" and np.isinf(value)):
            return True
        if rule.kind == "at_most_or_absent" and value > np.float32(rule.high):
            return True
        if rule.kind == "not_ahead" and value - NOW > rule.high:
            return True
        if rule.kind == "between":
            low, high = (b[place] if isinstance(b, tuple) else b for b in (rule.low, rule.high))
            if values.dtype == np.float32:
                low, high = np.float32(low), np.float32(high)
            if not low <= value <= high:
                return True
    return False


def test_a_task_may_mean_old_times():
    """History of before 1973, or a clock that begins at 0: of transitions and of heartbeats."""
    spec = msgspec.structs.replace(SPECS["valve"], oldest_ms=5)
    tasks = {"valve": known_task(spec, 0, LAYOUT)}
    assert not check([message(ts=5), heartbeat("valve", "a", 5)], tasks=tasks).rejected
    reasons = [one.reason for one in check([message(ts=4), heartbeat("valve", "a", 4)], tasks=tasks).rejected]
    assert [reason[:25] for reason in reasons] == ["ts is 4; 5 to 25340230079"] * 2


def test_rules_of_a_task():
    """Bounds of observations are rules only where the task has them."""
    assert "obs_bounds" in {rule.name for rule in rules_for(ARM, LAYOUT)}
    assert "obs_bounds" not in {rule.name for rule in rules_for(SPECS["valve"], LAYOUT)}
