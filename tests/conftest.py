"""What all tests share: how Hypothesis runs, and a channel directory that is a test's own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
