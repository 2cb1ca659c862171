"""The command as such: help, version, how it is started, and what it needs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.docs.snippets import ROOT

DEADLINE = 30.0
COMMANDS = ("demo", "ls", "info", "doctor", "pub", "sub", "req", "members", "top")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=DEADLINE
    )


def test_help_names_every_command(run: Callable[..., Any]):
    output = run("--help").stdout
    for command in COMMANDS:
        assert command in output


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(run: Callable[..., Any], command: str):
    assert "--directory" in run(command, "--help").stdout


def test_no_command_gives_the_help(run: Callable[..., Any]):
    assert "doctor" in run(code=2).output


def test_version(run: Callable[..., Any]):
    assert run("--version").stdout == f"open-channel {metadata.version('open-channel')}\n"


def test_the_package_runs_as_a_module(channel_dir: Path):
    result = python("-m", "open_channel", "ls")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"No channels in {channel_dir} ($OPEN_CHANNEL_DIR).\n"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_extra_is_one_line(missing: str):
    code = f"import sys; sys.modules[{missing!r}] = None; from open_channel.cli import main; main()"
    result = python("-c", code)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "pip install 'open-channel[cli]'" in result.stderr


def test_any_other_missing_module_is_not_hidden():
    module = "open_channel.io.directory"
    code = f"import sys; sys.modules[{module!r}] = None; from open_channel.cli import main; main()"
    result = python("-c", code)
    assert result.returncode == 1
    assert f"ModuleNotFoundError: import of {module} halted" in result.stderr


def test_the_extra_takes_no_typer_that_fails_with_todays_click():
    """Typer 0.15.3 takes any click, and its help fails with click 8.2."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = map(Requirement, project["optional-dependencies"]["cli"])
    (typer,) = [requirement.specifier for requirement in extra if requirement.name == "typer"]
    assert list(typer.filter(["0.15.0", "0.15.3", "0.16.0"])) == ["0.16.0"]
    assert metadata.version("typer") in typer


def test_the_library_does_not_import_the_extra():
    code = "import sys, open_channel, open_channel.cli; print({'typer', 'rich'} & {*sys.modules})"
    assert python("-c", code).stdout == "set()\n"


@pytest.mark.parametrize("command", [["ls"], ["info", "chat"]])
def test_a_directory_that_the_library_refuses(
    run: Callable[..., Any], channel_dir: Path, command: list[str]
):
    channel_dir.chmod(0o755)
    result = run(*command, code=1)
    assert result.stdout == ""
    assert "lets others in" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_directory_can_be_given(run: Callable[..., Any], channel_dir: Path):
    path = channel_dir / "other"
    assert f"No channels in {path} (--directory)" in run("ls", "--directory", str(path)).stdout
    assert not path.exists()
