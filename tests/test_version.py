"""The version: that of the installed package, looked up when somebody asks."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

import open_channel
import open_channel.sync

ASK = """
import sys, open_channel
before = "importlib.metadata" in sys.modules
print(open_channel.__version__, before, "importlib.metadata" in sys.modules)
"""


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody have asked for the version yet."""
    monkeypatch.delitem(vars(open_channel), "__version__", raising=False)


def test_it_is_that_of_what_is_installed(unasked: None):
    assert open_channel.__version__ == metadata.version("open-channel")
    assert "__version__" in dir(open_channel)


def test_it_is_looked_up_when_somebody_asks():
    said = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [open_channel.__version__, "False", "True"]


def test_there_is_none_where_nothing_is_installed(unasked: None, monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert not hasattr(open_channel, "__version__")


def test_the_blocking_api_has_none_of_its_own():
    assert not hasattr(open_channel.sync, "__version__")
