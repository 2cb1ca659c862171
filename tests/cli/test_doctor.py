"""`doctor`: what it finds, and that it changes nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from open_channel import ChannelSocket, open_channel
from open_channel.cli.doctor import passed_over
from open_channel.io.directory import ChannelFiles, Resolved, resolve


async def listen(socket: ChannelSocket) -> None:
    await socket.read()


def findings(document: dict[str, Any], check: str) -> list[tuple[str, str]]:
    found = document["findings"]
    return [(each["status"], each["text"]) for each in found if each["check"] == check]


@pytest.fixture
def listening(channel_dir: Path) -> Iterator[str]:
    """Give the name of a socket on which this process listens."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(channel_dir / "listening"))
        sock.listen()
        yield "listening"


# --- the directory --------------------------------------------------------------------------------


def test_all_is_well(run_json: Callable[..., Any], channel_dir: Path):
    document = run_json("doctor")
    assert document["ok"]
    assert (document["directory"], document["why"]) == (str(channel_dir), "$OPEN_CHANNEL_DIR")
    assert findings(document, "flock") == [("ok", f"works in {channel_dir}")]
    assert findings(document, "files") == [("ok", "nothing stale")]
    ((status, text),) = findings(document, "access")
    assert status == "ok"
    assert "mode 0700" in text
    assert list(channel_dir.iterdir()) == []


def test_an_open_directory(run: Callable[..., Any], channel_dir: Path):
    channel_dir.chmod(0o755)
    result = run("doctor", code=1)
    assert "its mode 0755 lets others in" in result.stdout
    assert f"1 problem in {channel_dir}" in result.stderr
    assert channel_dir.stat().st_mode & 0o777 == 0o755


def test_an_open_directory_as_json(run_json: Callable[..., Any], channel_dir: Path):
    channel_dir.chmod(0o755)
    document = run_json("doctor", code=1)
    assert not document["ok"]
    ((status, text),) = findings(document, "access")
    assert status == "problem"
    assert "lets others in" in text


def test_a_link_to_nowhere(run_json: Callable[..., Any], channel_dir: Path):
    link = channel_dir / "link"
    link.symlink_to(channel_dir / "nowhere")
    document = run_json("doctor", "-d", str(link), code=1)
    assert findings(document, "access") == [("problem", "it is a symbolic link")]
    assert not (channel_dir / "nowhere").exists()


def test_a_missing_directory_is_not_made(run_json: Callable[..., Any], channel_dir: Path):
    path = channel_dir / "a" / "b"
    document = run_json("doctor", "-d", str(path))
    assert findings(document, "access") == [("ok", "missing; the first member makes it")]
    assert findings(document, "flock") == [("ok", f"works in {channel_dir}")]
    assert document["why"] == "--directory"
    assert list(channel_dir.iterdir()) == []


def test_a_directory_that_the_system_refuses(run_json: Callable[..., Any]):
    if not Path("/proc/self").exists():
        pytest.skip("no /proc")
    document = run_json("doctor", "-d", "/proc/missing", code=1)
    ((status, text),) = findings(document, "access")
    assert status == "problem"
    assert text.startswith("missing, and none can be made in /proc: ")
    assert [status for status, _ in findings(document, "flock")] == ["note"]


@pytest.mark.parametrize("below", ["a", "a/b"])
def test_a_directory_below_a_file(run_json: Callable[..., Any], channel_dir: Path, below: str):
    file = channel_dir / "file"
    file.touch()
    document = run_json("doctor", "-d", str(file / below), code=1)
    text = f"missing, and {file} is not a directory"
    assert findings(document, "access") == [("problem", text)]
    assert [each["check"] for each in document["findings"] if each["status"] == "problem"] == [
        "access"
    ]


def test_a_path_that_is_too_long(run_json: Callable[..., Any], channel_dir: Path):
    document = run_json("doctor", "-d", str(channel_dir / ("x" * 80)), code=1)
    ((status, text),) = findings(document, "path length")
    assert status == "problem"
    assert "this system allows" in text


def test_a_lock_that_does_not_lock(
    run_json: Callable[..., Any], channel_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("open_channel.cli.doctor.fcntl.flock", lambda *_: None)
    ((status, text),) = findings(run_json("doctor", code=1), "flock")
    assert status == "problem"
    assert "two descriptors hold the same lock" in text


def test_no_locks_at_all(
    run_json: Callable[..., Any], channel_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("open_channel.cli.doctor.fcntl.flock", refuse)
    ((status, text),) = findings(run_json("doctor", code=1), "flock")
    assert (status, text) == ("problem", f"does not work in {channel_dir}: Operation not supported")


# --- why it is this directory ---------------------------------------------------------------------


def test_the_variable_goes_before_all(channel_dir: Path):
    assert passed_over(resolve()) == []


def test_a_given_directory_hides_the_usual_one(channel_dir: Path):
    (finding,) = passed_over(Resolved("/elsewhere", "--directory"))
    assert str(channel_dir) in finding.text


def test_what_is_not_set(channel_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPEN_CHANNEL_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(channel_dir))
    (finding,) = passed_over(resolve())
    assert (finding.status, finding.text) == ("ok", "$OPEN_CHANNEL_DIR: not set")


def test_what_is_set_and_does_not_serve(channel_dir: Path, monkeypatch: pytest.MonkeyPatch):
    missing = channel_dir / "missing"
    monkeypatch.delenv("OPEN_CHANNEL_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(missing))
    second = passed_over(resolve())[1]
    assert second.status == "note"
    assert second.text == f"$XDG_RUNTIME_DIR: No such file or directory: {missing}"


def test_a_relative_runtime_directory(channel_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPEN_CHANNEL_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", ".")
    monkeypatch.chdir(channel_dir)
    second = passed_over(resolve())[1]
    assert second.status == "note"
    assert second.text == "$XDG_RUNTIME_DIR: it is a relative path: ."


@pytest.mark.parametrize("command", ["doctor", "ls"])
def test_a_relative_variable_where_the_working_directory_is_gone(
    run: Callable[..., Any], channel_dir: Path, monkeypatch: pytest.MonkeyPatch, command: str
):
    gone = channel_dir / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("OPEN_CHANNEL_DIR", "here")
    said = run(command, code=1).stderr
    assert said.startswith("open-channel: channel directory here cannot be used: it is relative")
    given = run(command, "-d", str(channel_dir)).stdout
    assert (command == "doctor") == ("$OPEN_CHANNEL_DIR: it is relative, and" in given)


def test_when_nothing_serves(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPEN_CHANNEL_DIR", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 4_000_000)
    where = resolve()
    assert where.path == "/tmp/open-channel-4000000"
    assert [finding.text.split(":")[0] for finding in passed_over(where)] == [
        "$OPEN_CHANNEL_DIR",
        "$XDG_RUNTIME_DIR",
        "/run/user/4000000",
    ]


# --- who holds what -------------------------------------------------------------------------------


async def test_a_living_channel(run: Callable[..., Any], channel_dir: Path):
    async with open_channel("chat", listen).connect():
        output = run("doctor").stdout
    assert f"pid {os.getpid()} hosts it, epoch 1" in output
    assert "hosts: listener" in output
    assert "member, can host" in output


def test_a_dead_host(run_json: Callable[..., Any], hold: Callable[..., Any]):
    hold("chat").release()
    assert findings(run_json("doctor"), "chat (listener)") == [("ok", "nobody hosts it")]


def test_a_host_that_is_starting(run_json: Callable[..., Any], hold: Callable[..., Any]):
    hold("chat").write(b"")
    assert run_json("doctor")["channels"] == []


def test_a_host_without_a_socket(run_json: Callable[..., Any], hold: Callable[..., Any]):
    hold("chat")
    ((status, text),) = findings(run_json("doctor", code=1), "chat (listener)")
    assert status == "problem"
    assert "nobody listens on its socket" in text


def test_a_host_without_a_pulse(
    run_json: Callable[..., Any], hold: Callable[..., Any], listening: str
):
    lock = hold("chat", file=listening)
    os.utime(lock.path, (1.0, 1.0))
    ((status, text),) = findings(run_json("doctor", code=1), "chat (listener)")
    assert status == "problem"
    assert "no sign of life" in text


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the kernel does not tell")
def test_a_lock_in_other_hands(
    run_json: Callable[..., Any], hold: Callable[..., Any], listening: str
):
    hold("chat", pid=1, file=listening)
    ((status, text),) = findings(run_json("doctor"), "chat (listener)")
    assert status == "note"
    assert f"pid {os.getpid()} holds its lock" in text


async def test_a_lock_of_the_user_is_not_stale(run_json: Callable[..., Any], channel_dir: Path):
    async with open_channel("shop") as channel:
        key = ChannelFiles.of(str(channel_dir), "shop").key
        async with channel.lock("till"):
            assert list(channel_dir.glob(f"{key}.k.*"))
            assert findings(run_json("doctor"), "files") == [("ok", "nothing stale")]
        assert list(channel_dir.glob(f"{key}.k.*"))  # it stays, for the next one
        assert findings(run_json("doctor"), "files") == [("ok", "nothing stale")]
    assert findings(run_json("doctor"), "files") == [("ok", "nothing stale")]


def test_what_is_stale_is_a_note_and_stays(run_json: Callable[..., Any], channel_dir: Path):
    (channel_dir / "junk").touch()
    document = run_json("doctor")
    assert findings(document, "stale") == [("note", "junk: no file of a channel")]
    assert (channel_dir / "junk").exists()
