"""Settings of a task's learner: by its file and by people; from the next version on, or from the start; retrained."""

import shutil
from dataclasses import replace

import msgspec
import pytest
from stream import CONFIG, SETTINGS, learn_with_kills, open_stream, outcome, through, uncached

from headrace.learners.stream.stated import learned_by, require_known
from headrace.pipelines.fleet.job import START_MS, Fleet, cloud_task
from headrace.pipelines.learn import roster
from headrace.pipelines.policies.retrain import retrain
from headrace.pipelines.published import directives
from headrace.pipelines.tasks import add_task
from headrace.pipelines.topics import DIRECTIVES
from headrace.schemas.directives import SETTING
from headrace.schemas.errors import SettingsError
from headrace.schemas.ports import Record
from headrace.schemas.records import Bounds, Directive

SPEC = cloud_task()


def say(stream, number, target, value, verdict="accepted"):
    """As `headrace learner set` does."""
    text = msgspec.json.encode(value).decode()
    one = Directive(
        f"cloud.{SETTING}.{number}", "cloud", SETTING, 0.0, "ada", verdict, "ada", "why", 0, target, text=text
    )
    stream.log.send([Record(DIRECTIVES, b"cloud", msgspec.json.encode(one))])


def test_what_is_stated_holds_from_the_next_version_on(stream, recorded, tmp_path):
    """But for the net, which holds from the start; kills change nothing; each version is retrained to the same bits."""

    def learned(into, kills=None):
        job = into.learner()
        while not into.store.versions("cloud"):
            for item in job.poll():
                through(job, item)
        job.stop.finished = True
        job.commit([None])
        job.close()
        for number, (name, value) in enumerate(
            [("learning_rate", 4e-4), ("batch_size", 32), ("hidden", [8]), ("candidate_rows", 900)], 1
        ):
            say(into, number, name, value)
        if kills is None:
            into.learn()
        else:
            assert learn_with_kills(into, kills, 12)
        return outcome(into)

    versions, *_ = learned(stream)
    stated = [(v.config["learning_rate"], v.config["batch_size"], v.config["candidate_rows"]) for v in versions]
    assert stated == [(1e-3, 64, 1_500)] * 2 + [(4e-4, 32, 900)] * (len(versions) - 2)
    assert {v.config["hidden"] == (16,) or v.config["hidden"] == [16] for v in versions} == {True}
    assert len(versions) > 5
    for version in versions:
        assert retrain(stream.store, uncached(stream), "cloud", SPEC, version.version).equal
    shutil.copytree(recorded, tmp_path / "killed")
    other = open_stream(tmp_path / "killed")
    _, weights, *_ = learned(other, kills=1)
    assert weights == [v.weights_hash for v in versions]
    other.close()


def test_before_the_first_row_all_of_it_holds(stream):
    """The net too, and the algorithm: what the command line says is for tasks that state nothing."""
    for number, (name, value) in enumerate([("algorithm", "ppo"), ("hidden", [24]), ("rollout_rows", 700)], 1):
        say(stream, number, name, value)
    job = stream.learn()
    config = job.learners["cloud"].training.config
    assert (config.algorithm, config.hidden) == ("ppo", (24,))
    assert job.learners["cloud"].training.updates > 5
    newest = stream.store.versions("cloud")[-1]
    assert retrain(stream.store, uncached(stream), "cloud", SPEC, newest.version).equal


def test_what_is_taken_back_holds_no_longer(stream):
    """`headrace directive undo` works for it too."""
    say(stream, 1, "discount", 0.5)
    say(stream, 1, "discount", 0.5, verdict="undone")
    assert stream.learn().learners["cloud"].training.config.discount == CONFIG.discount
    assert [one.verdict for one in directives(stream.log, "cloud")] == ["accepted", "undone"]


def test_from_the_start_a_task_is_learned_anew(stream):
    """By what is stated since, under new numbers; then anyone goes on from its checkpoint."""
    stream.learn()
    before = stream.store.versions("cloud")
    say(stream, 1, "hidden", [24])
    assert stream.learn().learners == {}
    job = stream.learn(only=["cloud"], from_start=True)
    assert job.learners["cloud"].training.config.hidden == (24,)
    versions = stream.store.versions("cloud")
    assert [v.version for v in versions] == list(range(1, len(versions) + 1))
    again = versions[len(before) :]
    assert [v.environment_steps for v in again] == [v.environment_steps for v in before]
    assert again[0].parent is None
    assert retrain(stream.store, uncached(stream), "cloud", SPEC, versions[-1].version).equal
    stream.fleet(seed=5, start_ms=START_MS + 9 * SPEC.window_ms).emit_window(stream.advance)
    stream.ingest()
    learner = stream.learn().learners["cloud"]
    assert learner.training.counts.rows == 10 * 800
    assert learner.training.config.hidden == (24,)


def test_learning_anew_that_was_stopped_is_gone_on_from_by_all(stream):
    """It is behind the commit of those that had learned it before: they read on from its own place."""
    stream.learn()
    job = stream.learner(only=["cloud"], from_start=True)
    for item in [item for _ in range(4) for item in job.poll()]:
        through(job, item)
    job.stop.finished = True
    job.commit([None])
    job.close()
    rows = job.learners["cloud"].training.counts.rows
    assert 0 < rows < 9 * 800
    learner = stream.learner()
    learner.poll()
    assert learner.learners == {}
    learner.close()
    assert stream.learn().learners["cloud"].training.counts.rows == 9 * 800


def test_a_process_of_some_tasks_alone_passes_over_the_others(stream):
    """And its commits don't: who learns all of them finds their windows."""
    assert stream.learn(only=["another"]).learners == {}
    assert not stream.store.versions("cloud")
    assert stream.learn().learners["cloud"].training.counts.rows == 9 * 800


def test_tasks_of_different_algorithms_are_learned_by_one_process(stream):
    """Each as its file says; the others as the command line has it."""
    spec = msgspec.structs.replace(SPEC, task="other", learner={"algorithm": "ppo", "rollout_rows": 700})
    add_task(stream.log, spec)
    fleet = Fleet(stream.log, stream.store, spec, stream.layout, agents=8, start_ms=START_MS + 9 * SPEC.window_ms)
    for _ in range(5):
        fleet.emit_window(stream.advance)
    stream.ingest()
    job = stream.learn()
    found = {task: one.training.config.algorithm for task, one in job.learners.items()}
    assert found == {"cloud": "dqn", "other": "ppo"}
    for task, its in (("cloud", SPEC), ("other", spec)):
        newest = stream.store.versions(task)[-1]
        assert newest.algorithm == found[task]
        assert retrain(stream.store, uncached(stream), task, its, newest.version).equal


CONTINUOUS = msgspec.structs.replace(SPEC, actions=Bounds((0.0,), (1.0,)))


@pytest.mark.parametrize(
    ("spec", "values", "words"),
    [
        (SPEC, {"discoun": 0.9}, "by dqn has no setting 'discoun'; did you mean discount"),
        (SPEC, {"clip": 0.3}, "no setting 'clip'; it is one of ppo"),
        (SPEC, {"algorithm": "sac"}, "algorithm is 'sac'; there are dqn, ppo"),
        (SPEC, {"discount": 1.5}, r"discount must lie in \[0, 1\]"),
        (SPEC, {"hidden": []}, "hidden is"),
        (SPEC, {"hidden": [64, 0]}, "each size must be 1 or more"),
        (SPEC, {"hidden": [10**9]}, "hidden is .*: 4,096 is allowed at most"),
        (SPEC, {"hidden": [8] * 9}, "hidden has 9 layers: 8 are allowed at most"),
        (SPEC, {"replay_capacity": 10**15}, "replay_capacity is .*: 10,000,000 is allowed at most"),
        (SPEC, {"quantiles": 513}, "quantiles is 513: 512 is"),
        (SPEC, {"n_step": 21}, "n_step is 21: 20 is"),
        (SPEC, {"batch_size": 2**40}, "batch_size is .*: 65,536 is"),
        (SPEC, {"samples_per_row": 1e12}, "samples_per_row is .*: 1,000 is"),
        (CONTINUOUS, {"critic_hidden": [8, 4097]}, "critic_hidden is .*: 4,096 is"),
        (SPEC, {"batch_size": "big"}, "batch_size is 'big'"),
        (SPEC, {"refusals": -1}, "refusals must not be negative"),
        (SPEC, {"gate": "maybe"}, "gate is 'maybe'"),
        (SPEC, {"potential": [1.0]}, "no setting 'potential'"),
        (CONTINUOUS, {"algorithm": "dqn"}, "it has continuous actions, and dqn learns discrete ones only; ppo can"),
    ],
)
def test_what_can_not_be_is_refused_with_what_there_is(spec, values, words):
    with pytest.raises(SettingsError, match=words):
        require_known(spec, values)


def test_a_learner_that_can_not_be_made_is_passed_over(stream, caplog, monkeypatch):
    """Too large for the machine, say; what else the process learns goes on."""
    real = roster.Learner

    def too_large(spec, *rest, **named):
        if spec.task == "cloud":
            raise MemoryError("Unable to allocate 3.2 TiB")
        return real(spec, *rest, **named)

    monkeypatch.setattr(roster, "Learner", too_large)
    job = stream.learn()
    assert job.learners == {}
    assert "task cloud is not learned, and its windows are passed over: MemoryError: Unable to" in caplog.text


def test_a_task_goes_before_the_command_line_and_that_before_the_defaults():
    """Of the command line's configuration too where the algorithm is the same."""
    spec = msgspec.structs.replace(SPEC, learner={"hidden": (32, 32), "gate": "none"})
    config, settings = learned_by(spec, spec.learner, CONFIG, replace(SETTINGS, gate="simulator", refusals=7))
    assert (config.hidden, config.batch_size) == ((32, 32), CONFIG.batch_size)
    assert (settings.gate, settings.refusals) == ("none", 7)
    assert learned_by(SPEC, {}).config.algorithm == "dqn"
    assert learned_by(CONTINUOUS, {}).config.algorithm == "ppo"
    assert learned_by(SPEC, {"algorithm": "ppo"}, CONFIG).config.hidden == (96, 96)


@pytest.mark.parametrize(
    ("rows", "windows", "expected"),
    [
        (0, 0, 6_400),
        (800, 1, 6_400),
        (20_000, 2_000, 6_400),
        (16_000, 5, 12_800),
        (64_000, 10, 25_600),
        (53_000, 1, 25_600),
    ],
)
def test_candidates_follow_the_tasks_pace(rows, windows, expected):
    """Four windows' rows, within bounds; a number that is set stands."""
    unset = replace(SETTINGS, candidate_rows=0)
    assert unset.candidate_after(rows, windows) == expected
    assert SETTINGS.candidate_after(rows, windows) == 1_500
