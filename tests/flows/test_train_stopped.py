"""Ctrl-C of a training keeps what it had at its last point, which can be trained again to the bit."""

import pytest

from headrace.pipelines.policies.retrain import retrain
from headrace.pipelines.policies.train import Order, run_training
from headrace.sinks.files.policies import FilePolicyStore

ORDER = Order("ppo", "CartPole-v1", 3, 4_000, None, "pole")


class Impatient:
    """Somebody who presses Ctrl-C once so many points have been seen."""

    def __init__(self, points):
        self.left = points

    def __call__(self, _point):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def test_what_was_learned_until_then_is_kept(tmp_path):
    store = FilePolicyStore(tmp_path)
    whole = run_training(store, ORDER, lambda _: None, lambda _: None)
    stopped = run_training(store, ORDER, lambda _: None, Impatient(2))
    assert whole["stopped"] is None
    assert 0 < stopped["stopped"] == stopped["environment_steps"] < whole["environment_steps"]
    first, second = store.versions("pole")
    assert first.weights_hash != second.weights_hash
    assert "stopped by a person at" in second.reason
    for version in (1, 2):
        again = retrain(store, None, "pole", None, version)
        assert again.equal
    assert again.rows == stopped["stopped"]


def test_before_its_first_point_there_is_nothing_to_keep(tmp_path):
    store = FilePolicyStore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_training(store, ORDER, lambda _: None, Impatient(0))
    assert store.versions("pole") == []
