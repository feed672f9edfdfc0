"""The layout: what binds a log and an index together, made once by `headrace init`, and compared by every job."""

import logging
from typing import Final

from headrace.pipelines.settings import Settings
from headrace.pipelines.topics import OPERATIONS, PARTITIONED, REJECTED, SINGLE, TRANSITIONS, WINDOWS, YOUNGER
from headrace.schemas.errors import LayoutMismatchError, SettingsError, UnknownTopicError
from headrace.schemas.ports import Index, Log, Retention, TopicInfo
from headrace.schemas.records import Layout

logger = logging.getLogger(__name__)

DEFAULT_PARTITIONS: Final = 4
ORDERED: Final = (TRANSITIONS, WINDOWS)
"""What is read on in the order of its partitions; all of another topic is read, whatever partition it lies in."""

_REMEDIES: Final = {
    TRANSITIONS: "No partition can be taken away: make another log by `headrace init` (kafka://host/PREFIX, a new "
    "index, --partitions), and send the rows to it",
    WINDOWS: "Stop the jobs and delete the topic; `headrace init` makes it anew, and `headrace run ingest "
    "--from-start` fills it",
}


def initialise(
    log: Log, index: Index, settings: Settings, *, partitions: int | None = None, **fields: int | None
) -> Layout:
    """Create the topics, then the layout, once; the same again is a no-op, and None stands for what is there.

    fields: of `Layout`. Raises LayoutMismatchError, with nothing written, where log or index were made with others.
    """
    topic = _topic(log)
    stored = index.layout()
    if stored and (topic is None or topic.identity != stored.log):
        raise _other_log(settings, stored, topic)
    if topic and partitions not in {None, topic.partitions}:
        raise LayoutMismatchError(
            f"{settings.log} has {topic.partitions} partitions, {partitions} were asked for: leave "
            f"--partitions out, or name another log and index by --log and --index"
        )
    wanted = {name: value for name, value in fields.items() if value is not None}
    if stored:
        _require_same(settings, stored, wanted)
    for name in SINGLE:
        log.create(name, 1)
    count = topic.partitions if topic else partitions or DEFAULT_PARTITIONS
    for name in PARTITIONED:
        log.create(name, count)
    found = index.layout(Layout(log.topic(TRANSITIONS).identity, count, **wanted))
    assert found is not None
    _require_same(settings, found, wanted)  # another process may have been first
    return found


def stored_layout(log: Log, index: Index, settings: Settings) -> Layout:
    """Return the index's layout.

    Raises SettingsError where there is none, UnknownTopicError where the log has no topics (`headrace init`), and
    LayoutMismatchError where the index belongs to another log or to other code.
    """
    stored = index.layout()
    if stored is None:
        raise SettingsError(f"the index {settings.index} has no layout: write it with `headrace init`")
    topic = log.topic(TRANSITIONS)
    if topic.identity != stored.log:
        raise _other_log(settings, stored, topic)
    ours = Layout(stored.log)
    for field in ("codec_version", "rules_version"):
        if getattr(stored, field) != getattr(ours, field):
            raise LayoutMismatchError(
                f"the index {settings.index} was written under {field} {getattr(stored, field)}, this "
                f"headrace has {getattr(ours, field)}: use the headrace that wrote it, or ingest into a new index"
            )
    return stored


def retain(log: Log, layout: Layout, age_ms: int | None, size_bytes: int | None) -> None:
    """Say how long the log keeps rows, windows and what was rejected, and what the jobs said of themselves.

    Raises SettingsError as the log does.

    Whole segments go, unless one is too large by itself; what a job has yet to commit stays.
    """
    log.retain(TRANSITIONS, Retention(age_ms, size_bytes, step=layout.segment))
    log.retain(WINDOWS, Retention(age_ms, size_bytes))
    for topic in (REJECTED, OPERATIONS):
        log.retain(topic, Retention(age_ms, size_bytes, committed=False))


def require_sound(log: Log, layout: Layout) -> None:
    """Raise where the topics are no longer as `headrace init` made them, such that jobs would go wrong unseen.

    SettingsError where a setting breaks a law; LayoutMismatchError where a topic has got more partitions, whose keys
    then lie elsewhere: an agent's rows, or a task's windows, would no longer come in order.
    """
    names = [*SINGLE, *PARTITIONED]
    for name in YOUNGER:
        try:
            log.topic(name)
        except UnknownTopicError:  # the jobs say so, and go on
            names.remove(name)
    try:
        faults = log.faults(names)
    except SettingsError as error:  # this user may not see them
        logger.warning("the topics' settings are not checked: %s", error)
        faults = {}
    if faults:
        raise SettingsError("; ".join(faults.values()))
    if grown := grown_topics(log, layout):
        raise LayoutMismatchError("; ".join(grown))


def grown_topics(log: Log, layout: Layout) -> list[str]:
    """Say which topics have other partitions than they were made with, and what to do."""
    found = {name: log.topic(name).partitions for name in ORDERED}
    wanted = layout.partitions or found[TRANSITIONS]
    return [
        f"topic {name} has {count} partitions, it was made with {wanted}: keys lie elsewhere since, and their order is "
        f"lost. {_REMEDIES[name]}"
        for name, count in found.items()
        if count != wanted
    ]


def _topic(log: Log) -> TopicInfo | None:
    try:
        return log.topic(TRANSITIONS)
    except UnknownTopicError:
        return None


def _other_log(settings: Settings, stored: Layout, topic: TopicInfo | None) -> LayoutMismatchError:
    found = f"is {topic.identity}" if topic else "has no topics yet"
    return LayoutMismatchError(
        f"the index {settings.index} was written for the log {stored.log}, but "
        f"{settings.log} {found}: give the log and the index that belong together, or a new index"
    )


def _require_same(settings: Settings, stored: Layout, wanted: dict[str, int]) -> None:
    for name, value in wanted.items():
        if getattr(stored, name) != value:
            raise LayoutMismatchError(
                f"the index {settings.index} was written with {name} {getattr(stored, name)}, {value} was "
                "asked for: leave the option out, or name another log and index by --log and --index"
            )
