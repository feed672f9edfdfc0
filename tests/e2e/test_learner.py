"""headrace learner: what a task is learned by, seen and set on the command line; run learn --task."""

import json

from shell import VALVE, Shell, transitions


def told(shell: Shell, *arguments: object, code: int = 1) -> str:
    """What a command says on stderr where it is refused."""
    return shell(*arguments, code=code).stderr.decode()


def test_a_learner_is_stated_shown_and_set(shell: Shell) -> None:
    """A wrong name is refused when the task is added; what is set says from when on it holds, and can be undone."""
    shell.prepare(add=False)
    (shell.folder / "wrong.json").write_text(json.dumps(VALVE | {"learner": {"discoun": 0.9}}))
    assert "no setting 'discoun'; did you mean discount?" in told(shell, "task", "add", "wrong.json")
    (shell.folder / "valve.json").write_text(json.dumps(VALVE | {"learner": {"hidden": [8], "gate": "none"}}))
    shell.json("task", "add", "valve.json")
    values = {row["setting"]: (row["value"], row["from"]) for row in shell.lines("learner", "show", "valve")}
    assert values["algorithm"] == ("dqn", "default")
    assert values["hidden"] == ([8], "the task's file")
    shell.lines("learner", "set", "valve", "n_step=2", "hidden=16,16", "--reason", "wider", "--who", "ada")
    values = {row["setting"]: (row["value"], row["from"]) for row in shell.lines("learner", "show", "valve")}
    assert values["hidden"][0] == [16, 16]
    assert values["hidden"][1].startswith("ada, ")
    shell.lines("directive", "undo", "valve.setting.2", "--reason", "narrower")
    values = {row["setting"]: (row["value"], row["from"]) for row in shell.lines("learner", "show", "valve")}
    assert values["hidden"] == ([8], "the task's file")
    assert values["n_step"][0] == 2


def test_a_task_alone_is_learned_and_learned_anew(shell: Shell) -> None:
    """The log says how many rows a first candidate lacks; without a task --from-start is refused."""
    shell.prepare()
    shell.write("valve.jsonl", transitions(400))
    shell.json("produce", "valve.jsonl", "--close")
    shell.json("run", "ingest", "--until-caught-up", "--metrics", "off")
    learn = ("run", "learn", "--until-caught-up", "--metrics", "off")
    done = shell(*learn, "--task", "valve")
    assert b"valve: 400 rows, 0 updates, nothing serves yet: 6000 more rows make a first candidate" in done.stderr
    assert "there is no task 'value'" in told(shell, *learn, "--task", "value", code=2)
    assert "--from-start needs --task" in told(shell, *learn, "--from-start", code=2)
    shell.lines("learner", "set", "valve", "algorithm=ppo", "--reason", "as an experiment")
    (found,) = shell.lines(*learn, "--task", "valve", "--from-start")
    assert (found["algorithm"], found["rows"]) == ("ppo", 400)
    learning = next(check for check in shell.json("doctor")["checks"] if check["name"] == "learning")
    assert "valve: 6000 more rows make a first candidate" in learning["detail"]
