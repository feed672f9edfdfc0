"""Which model is served where none is named."""

import os
import sys

import pytest

from headrace.pipelines.tuning.finetuned import AS_IT_CAME
from headrace.pipelines.tuning.promoted import PROMOTED, serving_model
from headrace.schemas.errors import SettingsError
from headrace.sinks.llama.engine import Engine


def test_the_newest_that_was_promoted_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PROMOTED.mkdir(parents=True)
    for name, time_s in (("a", 20), ("b", 10)):
        (PROMOTED / f"{name}.gguf").touch()
        os.utime(PROMOTED / f"{name}.gguf", (time_s, time_s))
    assert serving_model().name == "a.gguf"


def test_else_the_one_that_the_extra_brings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = tmp_path / AS_IT_CAME
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('it is not imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, AS_IT_CAME, raising=False)
    with pytest.raises(SettingsError, match="local"):
        serving_model()
    (package / "small.gguf").touch()
    assert serving_model() == package / "small.gguf"


def test_a_model_that_is_not_there(tmp_path):
    """Or no llama.cpp, where the extra is not installed."""
    with pytest.raises(SettingsError, match=r"there is no model|headrace\[local\]"):
        Engine(tmp_path / "no.gguf")
