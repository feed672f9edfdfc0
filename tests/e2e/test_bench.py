"""`headrace bench` measures in a place of its own: what it tells adds up, and nothing of it is left."""

from importlib import import_module

import pytest

from headrace.pipelines.bench import lookup as bench_lookup
from headrace.pipelines.bench.scratch import SCRATCH

ROWS = ("--rows", "30000", "--warm-up", "0")


@pytest.mark.parametrize("form", ["json", "arrow"])
def test_ingest_is_measured_by_depth_and_leaves_nothing(shell, form):
    found = {record["depth"]: record for record in shell.lines("bench", "ingest", "--format", form, *ROWS)}
    assert list(found) == ["decode", "no store", "whole"]
    for record in found.values():
        assert record["rows"] >= 30_000
        rounded = 0.0005 / record["wall_s"]  # it is told in ms, and decoding takes some 20
        assert record["rows_per_s"] == pytest.approx(record["rows"] / record["wall_s"], rel=0.01 + rounded)
        threads = sum(record["stage_cpu_us_per_row"].values()) + record["other_threads_cpu_us_per_row"]
        assert threads == pytest.approx(record["cpu_s_per_million"], abs=0.02)
    assert found["whole"]["chunks"] > 100
    assert found["whole"]["windows"] > 0
    assert not [*shell.folder.rglob("*")]


def test_time_is_up_before_the_rows_are_done(shell):
    (record,) = shell.lines(
        "bench", "ingest", "--rows", "200000", "--warm-up", "1000", "--seconds", ".2", "--depth", "whole"
    )
    assert 0 < record["rows"] < 150_000


def test_lookups_hit_what_the_cache_holds(shell):
    asked = ("--chunks", "300", "--seconds", ".2", "--batch", "4")
    found = {(record["cache"], record["ends_with"]): record for record in shell.lines("bench", "lookup", *asked)}
    assert found["configured", "rows"]["hit_rate"] == 1.0
    assert found["none", "payload"]["hit_rate"] == 0.0
    share = found["share", "payload"]
    assert 0.5 * share["perfect_lfu_hit_rate"] < share["hit_rate"] < share["perfect_lfu_hit_rate"] + 0.05
    for record in found.values():
        assert record["lookups"] % 4 == 0
        assert 0 < record["p50_ms_at_half_peak"] <= record["p95_ms_at_half_peak"]
    assert not [*shell.folder.rglob("*")]


def test_latencies_are_those_of_calls_that_are_not_late(shell, monkeypatch):
    """In this process a call takes some 10 µs, less than a sleep ends late: the lateness must not add up."""
    monkeypatch.setattr(bench_lookup, "CASES", (("configured", "payload"),))
    (record,) = shell.lines("bench", "lookup", "--chunks", "300", "--seconds", ".5")
    assert record["p50_ms_at_half_peak"] < 50, "hundreds where it does; other processes take single ones"


def test_several_processes_ask_at_the_same_time(shell, monkeypatch):
    monkeypatch.setattr(bench_lookup, "CASES", (("none", "payload"),))
    (record,) = shell.lines("bench", "lookup", "--chunks", "100", "--seconds", ".2", "--concurrency", "2")
    assert record["concurrency"] == 2
    assert record["lookups"] > 0


def test_people_get_a_table(shell):
    lines = shell.here("bench", "ingest", "--depth", "decode", *ROWS).decode().splitlines()
    assert "rows/s" in lines[0]
    assert lines[1].startswith("decode")


def test_what_removes_a_scratch_place_is_there():
    """It is looked for by name, when the bench is done."""
    for folder in SCRATCH.values():
        assert callable(import_module(f"headrace.sinks.{folder}.scratch").drop)
