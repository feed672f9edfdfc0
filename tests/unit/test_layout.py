"""A log whose topics are no longer as `headrace init` made them is refused by the jobs."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from headrace.pipelines.layout import require_sound
from headrace.pipelines.topics import PARTITIONED, SINGLE
from headrace.schemas.errors import LayoutMismatchError, SettingsError
from headrace.schemas.records import Layout
from headrace.sinks.sqlite.log import SqliteLog


class Altered(SqliteLog):
    """A log of which somebody has changed settings."""

    told: dict[str, str] | SettingsError

    @override
    def faults(self, topics: Sequence[str]) -> dict[str, str]:
        if isinstance(self.told, SettingsError):
            raise self.told
        return self.told


def log_with(folder: Path, **partitions: int) -> Altered:
    log = Altered(folder / "log.db", lambda: 0)
    for name in (*SINGLE, *PARTITIONED):
        log.create(name, partitions.get(name, 2))
    log.told = {}
    return log


@pytest.mark.parametrize(
    ("noted", "partitions", "fault"),
    [
        (2, {}, None),
        (2, {"tasks": 7, "policies": 7, "reports": 7, "directives": 7, "mails": 7}, None),
        (2, {"windows": 7}, "topic windows has 7 partitions, it was made with 2.*--from-start"),
        (2, {"transitions": 7, "windows": 7}, "transitions has 7 .*headrace init.*; topic windows has 7"),
        (0, {"transitions": 7, "windows": 7}, None),
        (0, {"windows": 7}, "topic windows has 7 partitions, it was made with 2"),
    ],
)
def test_more_partitions_are_refused_where_order_matters(
    tmp_path: Path, noted: int, partitions: dict[str, int], fault: str | None
) -> None:
    """0: the layout of a headrace that did not note them."""
    with closing(log_with(tmp_path, **partitions)) as log:
        layout = Layout("id", noted)
        if fault is None:
            require_sound(log, layout)
        else:
            with pytest.raises(LayoutMismatchError, match=fault):
                require_sound(log, layout)


def test_a_setting_that_breaks_a_law_is_refused(tmp_path: Path) -> None:
    with closing(log_with(tmp_path)) as log:
        log.told = {"policies": "topic policies can't be used"}
        with pytest.raises(SettingsError, match="topic policies can't be used"):
            require_sound(log, Layout("id", 2))


def test_who_may_not_see_the_settings_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(log_with(tmp_path)) as log:
        log.told = SettingsError("access denied")
        require_sound(log, Layout("id", 2))
    assert "not checked: access denied" in caplog.text


def test_an_older_layout_is_read() -> None:
    assert msgspec.json.decode(b'{"log":"a","segment":64}', type=Layout) == Layout("a", 0, 64)
