"""The tasks that were added to the log, and since when."""

import msgspec

from headrace.pipelines.topics import TASKS, TopicReader, decoded
from headrace.schemas.checker import Task, known_task
from headrace.schemas.errors import InvalidTaskError
from headrace.schemas.ports import Log, Record
from headrace.schemas.records import Layout, TaskSpec, task_problem


class TaskTable(dict[str, Task]):
    """Tasks by name, as far as the topic was read; the first spec of a name stands."""

    def __init__(self, log: Log, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self._reader = TopicReader(log, TASKS)
        self.specs: dict[str, TaskSpec] = {}

    def refresh(self) -> bool:
        """Read the topic to its end; whether a task was new."""
        count = len(self)
        for batch in self._reader.batches():
            for spec, append_ts in zip(decoded(batch, TaskSpec), batch.append_ts.tolist(), strict=True):
                # What was not written by `task add` is passed over: what names it stays an unknown task.
                if spec and not task_problem(spec) and spec.task not in self:
                    self[spec.task] = known_task(spec, append_ts, self.layout)
                    self.specs[spec.task] = spec
        return len(self) > count

    def spec(self, name: str) -> TaskSpec | None:
        """Return a task's spec; reads on for one that is not known."""
        if name not in self.specs:
            self.refresh()
        return self.specs.get(name)


def task_specs(log: Log) -> dict[str, TaskSpec]:
    """Return the specs of all tasks on the log, by name."""
    table = TaskTable(log, Layout(log=""))
    table.refresh()
    return table.specs


def add_task(log: Log, spec: TaskSpec) -> bool:
    """Append a task unless it is there; whether it was appended. Raises InvalidTaskError if it is there otherwise."""
    present = task_specs(log).get(spec.task)
    if present == spec:
        return False
    if present:
        raise InvalidTaskError(
            f"task {spec.task} was added before with another spec; a task never changes: give it another name, "
            f"such as {spec.task}-2"
        )
    log.send([Record(TASKS, spec.task.encode(), msgspec.json.encode(spec))])
    return True
