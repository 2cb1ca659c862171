"""Which directory channels live in, whether it is safe, and the names of the files in it."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import stat
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from open_channel import DirectoryInsecure, NameInvalid, PathTooLong, open_channel
from open_channel.io.directory import ChannelFiles, candidates, check_name, resolve, secure

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPEN_CHANNEL_DIR", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


@pytest.fixture
def no_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the working directory be one that was deleted."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A /run/user/UID, of a user who does not exist."""
    uid = next(uid for uid in range(54321, 60000) if not os.path.exists(f"/run/user/{uid}"))
    path = f"/run/user/{uid}"
    bare = not os.path.exists("/run/user")  # as in a container
    os.makedirs(path, 0o700)
    os.chown(path, uid, uid)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    try:
        yield path
    finally:
        os.rmdir(path)
        if bare:
            os.rmdir("/run/user")


# --- which ----------------------------------------------------------------------------------------


def test_the_argument_goes_before_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPEN_CHANNEL_DIR", "/tmp/other")
    assert resolve(tmp_path).path == str(tmp_path)
    assert "open_channel()" in resolve(tmp_path).why


@pytest.mark.parametrize("given", [b"/x", Path("/x"), "/x"])
def test_the_argument_is_any_path(given: str) -> None:
    assert resolve(given).path == "/x"


def test_an_argument_that_is_no_path_is_refused() -> None:
    for empty in ("", b""):
        with pytest.raises(ValueError, match="empty"):
            resolve(empty)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        resolve(5)  # type: ignore[arg-type]


def test_the_variable_goes_before_the_runtime_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPEN_CHANNEL_DIR", "/tmp/mine")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert resolve() == ("/tmp/mine", "$OPEN_CHANNEL_DIR")


def test_a_relative_variable_is_made_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPEN_CHANNEL_DIR", "here")
    assert resolve().path == str(tmp_path / "here")


def test_a_relative_path_where_the_working_directory_is_gone(
    monkeypatch: pytest.MonkeyPatch, no_working_directory: None
) -> None:
    monkeypatch.setenv("OPEN_CHANNEL_DIR", "here")
    for directory in (None, "here", b"here", Path("here")):
        with pytest.raises(DirectoryInsecure) as caught:
            resolve(directory)  # type: ignore[arg-type]
        assert caught.value.path == "here"
        assert "it is relative, and the working directory" in caught.value.reason
        assert "No such file or directory" in caught.value.reason
    assert resolve("/x").path == "/x"


@pytest.mark.parametrize("name", ["open_channel", "open_channel.sync"])
def test_a_channel_is_not_opened_by_a_relative_path_to_nowhere(
    name: str, no_working_directory: None
) -> None:
    with pytest.raises(DirectoryInsecure):
        import_module(name).open_channel("chat", directory="here")


async def test_connect_raises_it_of_a_relative_variable(
    monkeypatch: pytest.MonkeyPatch, no_working_directory: None
) -> None:
    monkeypatch.setenv("OPEN_CHANNEL_DIR", "here")
    with pytest.raises(DirectoryInsecure, match="it is relative"):
        open_channel("chat").connect()


def test_a_relative_runtime_directory_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "run")
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    found = resolve()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert found == resolve()


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPEN_CHANNEL_DIR", "")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert resolve() == (f"{tmp_path}/open-channel", "$XDG_RUNTIME_DIR")


def test_a_runtime_directory_that_is_missing_or_no_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / name))
        assert not resolve().path.startswith(str(tmp_path))


@AS_ROOT
def test_a_runtime_directory_of_another_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert not resolve().path.startswith(str(tmp_path))


@AS_ROOT
def test_run_user_goes_before_tmp(runtime: str) -> None:
    assert resolve() == (f"{runtime}/open-channel", f"{runtime} exists")


@AS_ROOT
def test_run_user_of_another_does_not_count(runtime: str) -> None:
    os.chown(runtime, NOBODY, NOBODY)
    uid = os.geteuid()
    assert resolve().path == f"/tmp/open-channel-{uid}"


def test_tmp_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 987654)
    assert resolve().path == "/tmp/open-channel-987654"
    assert not os.path.exists("/tmp/open-channel-987654")  # nothing is made yet


def test_the_first_candidate_that_serves_is_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    unset, runtime, *_, last = candidates()
    assert unset == ("$OPEN_CHANNEL_DIR", None, None)
    assert (runtime.place, runtime.resolved) == (str(tmp_path), resolve())
    assert last.resolved is not None


# --- safe -----------------------------------------------------------------------------------------


def insecure(path: Path) -> str:
    """The reason why it is refused."""
    with pytest.raises(DirectoryInsecure) as caught:
        secure(str(path))
    assert caught.value.path == str(path)
    assert isinstance(caught.value, PermissionError)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.path, copy.reason) == (caught.value.path, caught.value.reason)
    return caught.value.reason


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_it_is_made_for_its_owner_alone(channel_dir: Path, umask: int) -> None:
    path = channel_dir / "made"
    before = os.umask(umask)
    try:
        secure(str(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    secure(str(path))  # again


def test_its_parents_are_made_too(channel_dir: Path) -> None:
    secure(str(channel_dir / "a" / "b"))
    assert stat.S_IMODE((channel_dir / "a" / "b").stat().st_mode) == 0o700


@AS_ROOT
def test_of_another_user(channel_dir: Path) -> None:
    os.chown(channel_dir, NOBODY, NOBODY)
    assert insecure(channel_dir) == f"it belongs to user {NOBODY}, and this process runs as 0"


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o770, 0o777, 0o1777])
def test_open_to_others(channel_dir: Path, mode: int) -> None:
    channel_dir.chmod(mode)
    assert f"{mode:04o}" in insecure(channel_dir)


def test_a_symbolic_link(channel_dir: Path) -> None:
    (channel_dir / "real").mkdir(0o700)
    (channel_dir / "link").symlink_to(channel_dir / "real")
    assert insecure(channel_dir / "link") == "it is a symbolic link"
    (channel_dir / "dangling").symlink_to(channel_dir / "nowhere")
    assert insecure(channel_dir / "dangling") == "it is a symbolic link"
    assert not (channel_dir / "nowhere").exists()


def test_a_file_in_its_place(channel_dir: Path) -> None:
    (channel_dir / "file").touch(0o600)
    assert insecure(channel_dir / "file") == "it is not a directory"
    insecure(channel_dir / "file" / "below")


def test_a_parent_where_all_may_replace_it(channel_dir: Path) -> None:
    path = channel_dir / "made"
    channel_dir.chmod(0o777)
    assert "parent" in insecure(path)
    channel_dir.chmod(0o1777)
    secure(str(path))


async def test_connect_raises_it(channel_dir: Path) -> None:
    channel_dir.chmod(0o755)
    with pytest.raises(DirectoryInsecure):
        open_channel("chat", directory=channel_dir).connect()
    assert list(channel_dir.iterdir()) == []


# --- names ----------------------------------------------------------------------------------------


def directory_of_length(channel_dir: Path, length: int) -> str:
    """A directory in which a socket's path has just that length."""
    name = ChannelFiles("", "", "0" * 20).socket("l", 0)
    missing = length - len(name) - 1 - len(str(channel_dir)) - 1
    return f"{channel_dir}/{'d' * missing}"


async def test_the_longest_path_that_fits(channel_dir: Path) -> None:
    directory = directory_of_length(channel_dir, 107)
    channel = open_channel("chat", lambda socket: None, directory=directory)
    await channel.connect().wait_connected()
    (path,) = [p for p in Path(directory).iterdir() if p.is_socket()]
    assert len(str(path)) == 107
    await channel.close(timeout=0)


async def test_a_path_one_byte_too_long(channel_dir: Path) -> None:
    directory = directory_of_length(channel_dir, 108)
    with pytest.raises(PathTooLong) as caught:
        open_channel("chat", lambda socket: None, directory=directory).connect()
    error = caught.value
    assert (error.length, error.limit) == (108, 107)
    assert error.path.startswith(directory)
    assert len(error.path) == 108
    assert "OPEN_CHANNEL_DIR" in str(error)
    assert not os.path.exists(directory)
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match="too long"):
        sock.bind(error.path + "/")


def test_a_directory_of_many_bytes_in_few_characters(channel_dir: Path) -> None:
    directory = directory_of_length(channel_dir, 107).replace("d", "é")
    with pytest.raises(PathTooLong):
        ChannelFiles.of(directory, "chat")


def test_names_of_any_length_have_files_of_one_length(channel_dir: Path) -> None:
    short, long = (ChannelFiles.of(str(channel_dir), name) for name in ("a", "ü" * 2048))
    assert len(short.key) == len(long.key) == 20
    assert short.key != long.key
    assert short.lock("l") == f"{channel_dir}/{short.key}.l"
    assert short.path(short.socket("l", 255)) == f"{channel_dir}/{short.key}.l.00000000000000ff"
    assert short.presence("ab") == f"{channel_dir}/{short.key}.m.ab"
    assert short.temporary() != short.temporary()


@pytest.mark.parametrize("name", ["", "a\nb", "\0", "ü" * 2049, "\ud800", 3, None, b"chat"])
def test_names_that_cannot_be(name: object) -> None:
    with pytest.raises(NameInvalid) as caught:
        check_name(name, "lock")
    assert (caught.value.what, caught.value.name) == ("lock", name)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", ["a", "../../etc", "with space", "雪", "ü" * 2048, "/"])
async def test_names_that_can(channel_dir: Path, name: str) -> None:
    channel = open_channel(check_name(name), lambda socket: None)
    await channel.connect().wait_connected()
    assert all(path.parent == channel_dir for path in channel_dir.iterdir())
    await channel.close(timeout=0)
    shutil.rmtree(channel_dir)
