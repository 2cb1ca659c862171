"""The comparison with the peers, quickly: that it measures, not what. And its page."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BENCHMARKS = ROOT / "benchmarks"
STANDARD = ("raw", "mp", "asyncio")
"""What needs nothing but Python (and uvloop): it must be measured everywhere."""


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=55)


def quick(folder: Path, pattern: str, *peers: str) -> tuple[dict[str, Any], str]:
    """One quick run of a pattern: what it has written, and what it has printed."""
    done = run("speed.py", pattern, "--quick", "--into", folder, "--peers", *peers)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / f"{pattern}.json").read_text()), done.stdout


def measured(record: dict[str, Any], *expected: str) -> dict[str, dict[str, float]]:
    """The figures of each entry, which must be there, finite and above zero."""
    figures = {}
    for key in expected:
        found = record["entries"][key]
        assert not found["failed"], f"{key}: {found['failed']}"
        (figures[key],) = found["rounds"]
        for what in ("count", "seconds"):
            value = figures[key][what]
            assert math.isfinite(value), f"{key}: {what}"
            assert value > 0, f"{key}: {what}"
    return figures


@pytest.mark.skipif(sys.platform != "linux", reason="measures with /proc")
class TestQuickRun:
    def test_a_stream_is_counted_at_the_receiver_and_missing_peers_are_named(self, tmp_path: Path):
        ours = ["ours-uvloop-batches", "ours-asyncio-messages"]
        asked = (*ours, "zmq-pair", "nats", "redis", *STANDARD)
        record, printed = quick(tmp_path, "stream", *asked)
        direct = ["raw-stream", "mp-connection", "mp-manager", "asyncio-streams"]
        for key, figures in measured(record, *ours, *direct).items():
            assert figures["rate"] > 500, key
            assert figures["publisher_cpu_us"] > 0, key
            assert figures["subscriber_cpu_us"] > 0, key
            hosted = key.startswith("ours") or key == "mp-manager"
            assert hosted == ("host_cpu_us" in figures), key
            assert f"| {record['entries'][key]['name']} " in printed
        # Each peer that was asked for is in the table or, by its name, below it.
        for key, entry in record["entries"].items():
            assert not entry["failed"], key
        for name, what in record["absent"].items():
            assert f"- {name}: not installed ({what})" in printed
        here = {entry["name"] for entry in record["entries"].values()} | record["absent"].keys()
        assert {"pyzmq PAIR, direct", "nats-py, nats-server", "redis-py, redis-server"} <= here

    def test_requests_are_answered(self, tmp_path: Path):
        record, _ = quick(tmp_path, "request", "ours-uvloop", *STANDARD)
        keys = ("ours-uvloop-batches", "raw-hops", "mp-connection", "mp-manager", "asyncio-relay")
        for key, figures in measured(record, *keys).items():
            assert 1 < figures["p50_us"] <= figures["p99_us"] < 1e6, key

    def test_several_receivers_get_all(self, tmp_path: Path):
        record, _ = quick(tmp_path, "fanout", "ours-uvloop-batches")
        (figures,) = measured(record, "ours-uvloop-batches").values()
        assert figures["rate"] * figures["seconds"] == pytest.approx(8 * figures["count"], rel=1e-3)

    def test_large_bodies_arrive(self, tmp_path: Path):
        record, _ = quick(tmp_path, "bodies", "ours-uvloop-batches", "raw")
        for figures in measured(record, "ours-uvloop-batches", "raw-stream").values():
            assert figures["rate"] > 1

    def test_hosts_are_killed_and_the_stream_goes_on(self, tmp_path: Path):
        record, _ = quick(tmp_path, "takeover", "ours-uvloop")
        (figures,) = measured(record, "ours-uvloop-batches").values()
        assert 0 < figures["p50_ms"] <= figures["p100_ms"]

    def test_connecting_and_being_idle_are_measured(self, tmp_path: Path):
        connect, _ = quick(tmp_path, "connect", "ours-uvloop", "raw")
        for figures in measured(connect, "ours-uvloop-batches", "raw-hops").values():
            assert figures["p50_us"] > 1
        idle, _ = quick(tmp_path, "idle", "ours-uvloop", "mp-manager")
        for figures in measured(idle, "ours-uvloop-batches", "mp-manager").values():
            assert figures["member_private_memory"] > 1
            assert figures["host_private_memory"] > 1

    def test_what_a_quick_run_leaves_out_is_named(self, tmp_path: Path):
        topics, printed = quick(tmp_path, "topics", "ours-uvloop")
        measured(topics, "ours-uvloop-batches@1", "ours-uvloop-batches@10")
        assert "- ours-uvloop-batches@10000: left out of a quick run" in printed


# --- the page -------------------------------------------------------------------------------------


def test_the_page_says_what_the_figures_say():
    done = run("draw.py", "--check")
    assert done.returncode == 0, done.stdout


def test_a_page_that_is_stale_is_found(tmp_path: Path):
    page = tmp_path / "page.md"
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    page.write_text(re.sub(r"\| (at least|at most) ", "| about ", text, count=1))
    assert run("draw.py", "--check", "--page", page).returncode == 1
    assert page.read_text() != text


def test_each_pattern_has_its_place_on_the_page(
    benchmark_module: Callable[[str], ModuleType],
):
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    places = set(re.findall(r"<!-- speed: (\w+) -->", text))
    assert places == {*benchmark_module("peers.plan").PATTERNS, "goals", "peers", "machine"}
