"""What all tests share: how Hypothesis runs, and a channel directory that is a test's own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.channel.programs import Programs

# HYPOTHESIS_PROFILE chooses: "ci" by default, "thorough" for a longer search.
# There is no deadline, because the machine may be busy with something else.
settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True)
settings.register_profile(
    "thorough",
    settings.get_profile("ci"),
    max_examples=5000,
    suppress_health_check=[HealthCheck.too_slow],
)
# Here, since several folders' tests run these: before any of them is imported.
pytest.register_assert_rewrite("tests.bus.conformance_bus", "tests.bus.conformance_requests")
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

HERE = Path(__file__).parent
UNMEASURED = (
    # The cores again, which their own tests cover wholly ...
    "fuzz",
    "simulation",
    "protocol/test_session_machine.py",
    # ... and processes that are not measured anyway, but watched from here.
    "benchmarks",
    "bus/test_processes.py",
    "bus/test_takeover.py",
    "chaos",
    "docs",
    "integration/test_election.py",
    "integration/test_healing.py",
    "integration/test_hung_host.py",
    "integration/test_interleavings.py",
    "integration/test_web_servers.py",
    "sync/test_processes.py",
)
"""Folders and files whose tests run without the measuring of coverage, which makes what they do
here take five times as long and shows nothing. Others have the mark `no_cover`."""


HEAVY = (
    "benchmarks",
    "bus/test_processes.py",
    "bus/test_takeover.py",
    "chaos",
    "integration/test_election.py",
)
"""Those that start a crowd of processes, or keep all processors busy: where two tests run at a
time, only one of these does."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run those that are not measured last.

    The measuring stops for them, and goes on in no thread that lived before: that of the blocking
    API lives as long as the process.
    """
    for item in items:
        if _is_in(UNMEASURED, item):
            item.add_marker(pytest.mark.no_cover)
        if _is_in(HEAVY, item):
            item.add_marker(pytest.mark.xdist_group("heavy"))
    # Of these the heavy ones first: one by one, they take the longest.
    items.sort(
        key=lambda item: (
            item.get_closest_marker("no_cover") is not None,
            item.get_closest_marker("xdist_group") is None,
        )
    )


def _is_in(places: tuple[str, ...], item: pytest.Item) -> bool:
    return any(item.path.is_relative_to(HERE / place) for place in places)


@pytest.fixture
def channel_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a private, empty directory, and make it the one in which channels are opened.

    Its path is short, unlike that of `tmp_path`: a Unix socket's holds 108 bytes at most (104 on
    macOS). Children of the test find it in their environment.
    """
    path = Path(tempfile.mkdtemp(prefix="oc-", dir=Path("/tmp").resolve()))  # mode 0700
    monkeypatch.setenv("OPEN_CHANNEL_DIR", str(path))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def run(channel_dir: Path) -> Iterator[Programs]:
    """Give what runs programs in processes of their own."""
    programs = Programs()
    yield programs
    programs.end()
