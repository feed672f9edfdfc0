"""Policies as files of other runtimes: each decides as acting does."""

import hashlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.checkpoint import pack, weights_hash
from headrace.learners.prior import prior_to_arrays, rule_prior
from headrace.pipelines.policies.export import export
from headrace.pipelines.policies.portable import Portable, to_json, to_onnx, to_safetensors, to_torchscript
from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import open_services
from headrace.schemas.errors import SettingsError, UnknownPolicyError
from headrace.schemas.policy_versions import OPPONENTS, level_of, opponent_of
from headrace.schemas.ports import Record
from headrace.schemas.records import (
    ChunkReference,
    Interval,
    Judgement,
    LineageEntry,
    PolicyVersion,
    ServingPolicy,
    TaskSpec,
)

WIDTH, ACTIONS, ROWS = 6, 4, 10_000
ROOT = Path(__file__).parents[2]


def made(kind):
    """A policy with every part that its kind may have: normaliser, features, prior; dueling heads or bounds."""
    rng = np.random.default_rng(1)

    def normal(*shape):
        return rng.normal(0.0, 0.5, shape).astype(np.float32)

    arrays = {"hidden_0.weight": normal(WIDTH + 2, 16), "hidden_0.bias": normal(16)}
    arrays |= {"hidden_1.weight": normal(16, 8), "hidden_1.bias": normal(8), "features.weight": normal(WIDTH, 2)}
    arrays |= {"observation.mean": normal(WIDTH), "observation.scale": np.abs(normal(WIDTH)) + np.float32(0.1)}
    arrays |= {"observation.limit": np.full(1, 2.0, np.float32)}
    if kind == "normal":
        arrays |= {"mean.weight": normal(8, ACTIONS), "mean.bias": normal(ACTIONS), "log_std": normal(ACTIONS)}
        bounds = {"action.low": np.array([-1, -0.5, -np.inf, 0]), "action.high": np.array([1, np.inf, 0.5, 0.1])}
        return BoxPolicy(arrays | bounds | {"activation.tanh": np.ones(1)})
    if kind == "values":
        arrays |= {"value.weight": normal(8, 3), "value.bias": normal(3)}
        return Policy(arrays | {"advantage.weight": normal(8, 3 * ACTIONS), "advantage.bias": normal(3 * ACTIONS)})
    prior = prior_to_arrays(rule_prior(normal(WIDTH), 1.0, ACTIONS, 2.0))
    return Policy(arrays | prior | {"logits.weight": normal(8, ACTIONS), "logits.bias": normal(ACTIONS)})


def observations():
    return np.random.default_rng(2).normal(0.0, 1.0, (ROWS, WIDTH)).astype(np.float32)


def assert_same(policy, actions, scores=None):
    """The same scores and actions. Two of 10,000 may differ by rounding: scores may tie, a prior's sum may be whole."""
    obs = observations()
    if isinstance(policy, BoxPolicy):
        np.testing.assert_allclose(actions, policy.act(obs), rtol=1e-4, atol=1e-5)
        return
    expected = policy.q_values(obs)
    assert (np.asarray(actions) != expected.argmax(axis=1)).sum() <= 2
    if scores is not None:
        assert (~np.isclose(scores, expected, rtol=1e-4, atol=1e-4).all(axis=1)).sum() <= 2


@pytest.mark.parametrize("kind", ["values", "softmax", "normal"])
def test_onnx_decides_as_acting_does(kind):
    policy, obs = made(kind), observations()
    model = onnx.load_from_string(to_onnx(Portable.of(policy)))
    actions, scores = ReferenceEvaluator(model).run(["action", "scores"], {"obs": obs})
    assert actions.dtype == (np.float32 if kind == "normal" else np.int64)
    assert_same(policy, actions, scores)


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["values", "softmax", "normal"])
def test_torchscript_decides_as_acting_does(kind):
    policy, obs = made(kind), observations()
    module = torch.jit.load(io.BytesIO(to_torchscript(Portable.of(policy))))
    actions, scores = module(torch.from_numpy(obs))
    assert_same(policy, actions.numpy(), scores.numpy())


@pytest.mark.servers  # so that it runs where Java surely is: Kafka needs it
@pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java")
@pytest.mark.parametrize("kind", ["values", "softmax", "normal"])
def test_the_documents_java_decides_as_acting_does(kind, tmp_path):
    """From the safetensors file and its JSON alone."""
    policy, obs = made(kind), observations()
    portable = Portable.of(policy)
    (tmp_path / "p.safetensors").write_bytes(to_safetensors(portable))
    (tmp_path / "p.json").write_bytes(to_json(portable, {"policy": "p@1"}))
    (code,) = re.findall(r"```java\n(.*?)```", (ROOT / "docs/acting.md").read_text(), re.DOTALL)
    (tmp_path / "Decide.java").write_text(code)
    lines = "\n".join(",".join(map(repr, row)) for row in obs.tolist())
    done = subprocess.run(
        ["java", "Decide.java", "p.safetensors"], cwd=tmp_path, input=lines, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    actions = np.array([json.loads(line) for line in done.stdout.splitlines()])
    assert_same(policy, actions)


def stored(services, version, weights, **more):
    services.policies.put(
        PolicyVersion(
            task="valve",
            version=version,
            parent=version - 1 or None,
            algorithm="ppo",
            config={"discount": 0.9},
            seed=0,
            code_version="0.1.0",
            weights_hash=weights_hash(weights),
            environment_steps=version * 1_000,
            updates=version,
            lineage=[LineageEntry(ChunkReference("valve", 0, 60_000 * version, 0, 0, 0, 1_200, 7), 200, 0)],
            evaluation={"policy": 5.0, "serving": 4.0},
            difference=Interval(1.0, 0.5, 1.5),
            promoted=True,
            reason="better than what served",
            judged=Judgement(version - 1, 1, 0.0125, 7, 128, 64),
            **more,
        ),
        weights,
    )


def test_a_card_beside_the_file_says_what_was_learned_from_and_how_it_was_judged(tmp_path, monkeypatch):
    """Of the version that serves, unless one is named; all of it from the records."""
    monkeypatch.chdir(tmp_path)
    bias = {"logits.weight": np.zeros((2, 2), np.float32), "logits.bias": np.zeros(2, np.float32)}
    with open_services(read_settings({}), create=True) as services:
        services.initialise(partitions=1)
        spec = TaskSpec("valve", ("pressure", "flow"), ("shut", "open"), 60_000)
        for version in (1, 2):
            stored(services, version, pack(bias), complete=version == 1)
        with pytest.raises(UnknownPolicyError, match="no version of valve serves"):
            export(services.log, services.policies, spec, "valve", None, tmp_path / "valve.onnx")
        record = ServingPolicy("valve", 2, weights_hash(bias), "ana", "it was fine", 1_700_000_000_000)
        services.log.send([Record("policies", b"valve", msgspec.json.encode(record))])
        number, files = export(services.log, services.policies, spec, "valve", None, tmp_path / "valve.safetensors")
    assert (number, [file.name for file in files]) == (2, ["valve.safetensors", "valve.json", "valve.md"])
    about = json.loads((tmp_path / "valve.json").read_text())
    assert (about["policy"], about["observations"], about["actions"]) == (
        "valve@2",
        ["pressure", "flow"],
        ["shut", "open"],
    )
    assert about["sha256"] == hashlib.sha256((tmp_path / "valve.safetensors").read_bytes()).hexdigest()
    text = (tmp_path / "valve.md").read_text()
    for line in (
        "serves: yes, when this was written",
        "2,000 rows from the stream, of 2 chunks in 2 windows",
        "event time: 1970-01-01T00:01:00Z to 1970-01-01T00:03:00Z",
        "parent: valve@1; since that 1,000 rows",
        "verdict: better than what served (promoted by learn)",
        "return less that of what served: +1.000 (97.5 %: +0.500 to +1.500)",
        "2023-11-14T22:13:20Z, by ana: it was fine",
        "actions, by number: 0 (shut), 1 (open)",
        "it can't be retrained",
        "discount: 0.9",
    ):
        assert line in text


def test_the_opponent_goes_by_the_evaluation_and_the_level_by_the_record():
    by_evaluation = {name: opponent_of({"policy": 1.0, "rule": 2.0, name: 0.0}) for name in OPPONENTS}
    assert by_evaluation == {name: name for name in OPPONENTS}
    assert opponent_of({"policy": 1.0}) == "floor"
    assert {f"{level_of(judged(alpha)):.6g}" for alpha in (0.025, 0.00125)} == {"0.95", "0.9975"}
    assert level_of(judged(None)) is None, "rows judged it: the record does not tell the level"


def judged(alpha):
    how = alpha and Judgement(0, 1, alpha, 7, 128, 64)
    return PolicyVersion(
        "valve", 1, None, "ppo", {}, 0, "", "", 0, 0, [], {}, None, promoted=True, reason="", judged=how
    )


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"known"):
        export(None, None, None, "valve", 1, tmp_path / "valve.pkl")
