"""Lineage: a version is retrained from the chunks that it names, to the same weights."""

import re
import shutil
from itertools import groupby

import msgspec
import pytest
from stream import open_stream, uncached

from headrace.learners.cloud import ENVIRONMENT_ID
from headrace.pipelines.fleet.job import cloud_task
from headrace.pipelines.policies.retrain import retrain
from headrace.pipelines.policies.train import Order, run_training
from headrace.schemas.errors import CorruptDataError, UnknownPolicyError
from headrace.schemas.policy_versions import read_policy_version
from headrace.sinks.files.policies import FilePolicyStore

SPEC = cloud_task()


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A stream with policies; the learner stopped and went on in the middle, before its replay was full and after."""
    stream = open_stream(tmp_path_factory.mktemp("learned"))
    fleet = stream.fleet(seed=3)
    for _ in range(3):
        for _ in range(3):
            fleet.emit_window(stream.advance)
            stream.ingest()
        stream.learn()
    yield stream
    stream.close()


def test_every_version_is_retrained_to_the_same_weights(learned):
    versions = learned.store.versions("cloud")
    assert len(versions) >= 4
    for version in versions:
        seen = []
        found = retrain(
            learned.store,
            uncached(learned),
            "cloud",
            SPEC,
            version.version,
            progress=lambda *told, to=seen: to.append(told),
        )
        assert found.equal
        assert found.hash == version.weights_hash
        assert (found.rows, found.updates) == (version.environment_steps, version.updates)
        assert seen[-1][0] == seen[-1][1] == len(seen)


def test_another_seed_gives_other_weights(learned, tmp_path):
    """The comparison can fail."""
    versions = learned.store.versions("cloud")
    other = [msgspec.structs.replace(version, seed=version.seed + 1) for version in versions]
    assert not retrain(Versions(other), uncached(learned), "cloud", SPEC, 2).equal


class Versions:
    """A policy store that says what it is told."""

    def __init__(self, versions):
        self._versions = versions

    def versions(self, task):
        return self._versions


def in_three_lists(fields):
    """What holds a lineage, as the first format had it."""
    entries = fields.pop("lineage")
    windows = [len([*entries]) for _, entries in groupby(entries, lambda entry: entry[2])]
    lists = {"lineage": [entry[0] for entry in entries], "first_rows": [entry[1] for entry in entries]}
    return fields | lists | {"windows": windows}


def of_the_first_format(version, drop=()):
    """Read a version from bytes as an earlier headrace wrote them."""
    fields = in_three_lists(msgspec.to_builtins(version)) | {"schema_version": 1}
    return read_policy_version(msgspec.json.encode({name: fields[name] for name in fields if name not in drop}))


def test_versions_of_the_first_format_are_read_and_retrained(learned, tmp_path):
    """The three lists of before say what the entries say."""
    versions = learned.store.versions("cloud")
    assert len({entry.window for entry in versions[0].lineage}) > 1
    assert [of_the_first_format(one) for one in versions] == versions
    store = FilePolicyStore(shutil.copytree(learned.folder / "policies", tmp_path / "policies"))
    for path in (tmp_path / "policies" / "cloud").glob("v*.json"):
        manifest = msgspec.json.decode(path.read_bytes())
        manifest["version"] = in_three_lists(manifest["version"]) | {"schema_version": 1}
        path.write_bytes(msgspec.json.encode(manifest))
    assert store.versions("cloud") == versions
    assert retrain(store, uncached(learned), "cloud", SPEC, versions[-1].version).equal


def test_a_chunk_that_is_missing_is_named(learned):
    versions = learned.store.versions("cloud")
    gone = msgspec.structs.replace(versions[0].references[2], segment=10**6)
    lineage = [*versions[0].lineage]
    lineage[2] = msgspec.structs.replace(lineage[2], reference=gone)
    store = Versions([msgspec.structs.replace(versions[0], lineage=lineage)])
    with pytest.raises(CorruptDataError, match=rf"{re.escape(str(gone))}: missing from the index"):
        retrain(store, uncached(learned), "cloud", SPEC, 1)


def test_a_chunk_that_has_changed_is_named(learned):
    versions = learned.store.versions("cloud")
    changed = msgspec.structs.replace(versions[0].references[2], checksum=1)
    lineage = [*versions[0].lineage]
    lineage[2] = msgspec.structs.replace(lineage[2], reference=changed)
    store = Versions([msgspec.structs.replace(versions[0], lineage=lineage)])
    with pytest.raises(CorruptDataError, match="checksum"):
        retrain(store, uncached(learned), "cloud", SPEC, 1)


def test_a_version_without_its_parent_or_a_whole_lineage_is_refused(learned):
    versions = learned.store.versions("cloud")
    with pytest.raises(UnknownPolicyError, match=r"cloud@99 is not in"):
        retrain(learned.store, uncached(learned), "cloud", SPEC, 99)
    with pytest.raises(UnknownPolicyError, match=r"cloud@1, from which cloud@2 was trained on"):
        retrain(Versions(versions[1:]), uncached(learned), "cloud", SPEC, 2)
    begun_anew = [versions[0], msgspec.structs.replace(versions[1], complete=False)]
    with pytest.raises(CorruptDataError, match="replay was begun anew"):
        retrain(Versions(begun_anew), uncached(learned), "cloud", SPEC, 2)
    old = [of_the_first_format(versions[0], drop=("first_rows", "windows"))]
    with pytest.raises(CorruptDataError, match="does not say which rows"):
        retrain(Versions(old), uncached(learned), "cloud", SPEC, 1)


@pytest.mark.parametrize(("algorithm", "environment"), [("ppo", ENVIRONMENT_ID), ("dqn", "CartPole-v1")])
def test_what_was_trained_in_simulation_is_trained_again(tmp_path, algorithm, environment):
    """Its record holds the environment, the configuration, the seed and the steps; no task needs to be there."""
    store = FilePolicyStore(tmp_path)
    trained = run_training(
        store, Order(algorithm, environment, 5, 6_000, None), on_start=lambda _: None, on_point=lambda _: None
    )
    task, _, number = trained["version"].partition("@")
    found = retrain(store, None, task, None, int(number))
    assert found.equal
    assert found.hash == trained["hash"]
    (version,) = store.versions(task)
    other = Versions([msgspec.structs.replace(version, seed=6)])
    assert not retrain(other, None, task, None, 1).equal


def test_after_a_lost_checkpoint_the_lineage_begins_anew(tmp_path):
    """The new learner's versions have new numbers, and no parent among the old ones."""
    stream = open_stream(tmp_path)
    fleet = stream.fleet(seed=3)
    for _ in range(5):
        fleet.emit_window(stream.advance)
    stream.ingest()
    stream.learn()
    before = stream.store.versions("cloud")
    (tmp_path / "policies" / "cloud" / "checkpoint").unlink()
    stream.learn()
    versions = stream.store.versions("cloud")
    again = versions[len(before)]
    assert again.parent is None
    assert retrain(stream.store, uncached(stream), "cloud", SPEC, versions[-1].version).equal
    assert again.environment_steps == before[0].environment_steps
    stream.close()
