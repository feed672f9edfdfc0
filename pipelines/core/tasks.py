"""The tasks that were added to the log, and since when."""

from collections.abc import Iterator, Mapping

import msgspec

from headrace.pipelines.topics import TASKS
from headrace.schemas.checker import Task, known_task
from headrace.schemas.errors import InvalidTaskError
from headrace.schemas.ports import Log, Record
from headrace.schemas.records import Layout, TaskSpec, task_problem


class TaskTable(Mapping[str, Task]):
    """Tasks by name, as far as the topic was read; the first spec of a name stands."""

    def __init__(self, log: Log, layout: Layout) -> None:
        self._log = log
        self.layout = layout
        self._tasks: dict[str, Task] = {}
        self._next: dict[int, int] = {}
        self.specs: dict[str, TaskSpec] = {}

    def refresh(self) -> bool:
        """Read the topic to its end; whether a task was new."""
        count = len(self._tasks)
        for partition in range(self._log.topic(TASKS).partitions):
            begin, end = self._log.bounds(TASKS, partition)
            offset = max(begin, self._next.get(partition, begin))
            while offset < end:
                batch = self._log.read(TASKS, partition, offset, 1_000)
                if not len(batch):
                    break
                for value, append_ts in zip(batch.values, batch.append_ts.tolist(), strict=True):
                    self._add(value, append_ts)
                offset = int(batch.offsets[-1]) + 1
            self._next[partition] = offset
        return len(self._tasks) > count

    def _add(self, value: bytes | None, append_ts: int) -> None:
        if not value:
            return
        try:
            spec = msgspec.json.decode(value, type=TaskSpec)
        except msgspec.MsgspecError:
            return
        if task_problem(spec):
            return  # not written by `task add`; what names it stays an unknown task
        if spec.task not in self._tasks:
            self._tasks[spec.task] = known_task(spec, append_ts, self.layout)
            self.specs[spec.task] = spec

    def __getitem__(self, name: str) -> Task:
        """Return a task by name."""
        return self._tasks[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over names."""
        return iter(self._tasks)

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self._tasks)


def add_task(log: Log, table: TaskTable, spec: TaskSpec) -> bool:
    """Append a task unless it is there; whether it was appended. Raises InvalidTaskError if it is there otherwise."""
    table.refresh()
    present = table.specs.get(spec.task)
    if present == spec:
        return False
    if present:
        raise InvalidTaskError(
            f"task {spec.task} was added before with another spec; a task never changes: give it another name, "
            f"such as {spec.task}-2"
        )
    log.send([Record(TASKS, spec.task.encode(), msgspec.json.encode(spec))])
    table.refresh()
    return True
