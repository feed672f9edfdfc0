"""The doctor sees how far the jobs are, and that what serves can be loaded."""

import shutil
from contextlib import closing

from headrace.pipelines import doctor
from headrace.pipelines.explain.job import GROUP as EXPLAIN
from headrace.pipelines.learn.job import GROUP as LEARN
from headrace.pipelines.report.job import GROUP as DIGEST
from headrace.pipelines.settings import read_settings
from headrace.pipelines.topics import INGEST
from headrace.pipelines.wiring import open_services
from headrace.schemas.ports import Assigned, Commit


def found(stream):
    options = {"log": f"sqlite:///{stream.folder}/log.db", "index": f"sqlite:///{stream.folder}/index.db"}
    options |= {"policies": f"file:///{stream.folder}/policies"}
    with open_services(read_settings(options)) as services:
        return {check.name: check for check in (doctor._jobs(services), doctor._serving(services))}


def test_the_jobs_go_by_the_names_of_their_groups():
    assert list(doctor.READERS) == [INGEST, LEARN, EXPLAIN, DIGEST]


def test_a_job_that_is_behind_and_a_policy_that_is_gone(stream):
    assert found(stream)["jobs"].detail == "learn never ran; explain never ran; digest never ran"
    assert found(stream)["serving"].detail == "no policy yet"
    stream.learn()
    assert found(stream)["jobs"].detail.startswith("learn is up to date; ")
    (serving,) = {version.version for version in stream.store.versions("cloud")[-1:]}
    assert found(stream)["serving"].detail == f"cloud@{serving}"
    stream.fleet(seed=9).emit_window(stream.advance)
    stream.ingest()
    assert "messages of windows behind: `headrace run learn`" in found(stream)["jobs"].detail
    with closing(stream.log.subscribe("learn.cloud", "windows")) as member:
        (first, *_) = (event for event in member.poll(1, 1.0) if isinstance(event, Assigned))
        member.commit({first.partition: Commit(0)})
    assert "behind: run its job, or `headrace forget --group learn.cloud`" in found(stream)["jobs"].detail
    shutil.rmtree(stream.folder / "policies" / "cloud")
    check = found(stream)["serving"]
    assert not check.ok
    assert f"cloud@{serving} serves, and can't be loaded: policy cloud@{serving} is not in" in check.detail
