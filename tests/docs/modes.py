"""How the code blocks of the documentation are run: one function for each mode."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from open_channel.io.inspect import list_channels
from tests.docs.snippets import ROOT, Snippet
from tests.processes import DEADLINE, Process, Processes, wait_for

__all__ = ["MODES", "WebServer", "check_count", "host_pid", "run_program", "start"]

# Forking beside the library's thread is what one of the pages is about; Python 3.12 warns of it.
_ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONWARNINGS": "ignore:This process:DeprecationWarning",
}

Mode = Callable[[Snippet, Path, Processes], None]


def start(processes: Processes, directory: Path, *arguments: object) -> Process:
    """Start a Python process in a directory."""
    return processes(*arguments, cwd=directory, env=os.environ | _ENVIRONMENT)


def run_program(path: Path, *arguments: str) -> str:
    """Run a program to its end; return what it printed."""
    done = subprocess.run(
        [sys.executable, path.name, *arguments],
        cwd=path.parent,
        env=os.environ | _ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def _same(text: str) -> str:
    """Output as it is compared: whatever differs from run to run is made the same."""
    text = re.sub(r"\bpid \d+", "pid N", text)
    text = re.sub(r"/tmp/[\w./-]+", "DIRECTORY", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def program(snippet: Snippet, directory: Path, processes: Processes) -> None:
    """A program that ends by itself, without an error, and prints what the page says."""
    printed = run_program(snippet.save(directory))
    if snippet.output is not None:
        assert _same(printed) == _same(snippet.output)


def file(snippet: Snippet, directory: Path, processes: Processes) -> None:
    """A file that others of its page use: it can be imported. ``test_snippets`` sees the use."""
    snippet.save(directory)
    module = Path(snippet.name).stem
    run_program_text(directory, f"import {module}")


def run_program_text(directory: Path, code: str) -> str:
    """Run some lines."""
    path = directory / "lines.py"
    path.write_text(code, encoding="utf-8")
    return run_program(path)


_AROUND = """
import os
from open_channel import Limits, open_channel
import open_channel.errors

async def echo(socket):
    async for message in socket:
        socket.write(message)

async def snippet(channel, socket):
{code}
async def main():
    channel = open_channel("docs", echo)
    await asyncio.wait_for(snippet(channel, channel.connect()), 20)
    await channel.close()

asyncio.run(main())
"""


def fragment(snippet: Snippet, directory: Path, processes: Processes) -> None:
    """Some lines that use a connected ``channel`` and its ``socket``, with an echo behind it."""
    code = textwrap.indent(snippet.code, "    ")
    printed = run_program_text(directory, _AROUND.format(code=code))
    if snippet.output is not None:
        assert _same(printed) == _same(snippet.output)


def takeover(snippet: Snippet, directory: Path, processes: Processes) -> None:
    """Processes run the program, and all hear the host; when it ends, they hear the next.

    The first ends by Ctrl-C, the second is killed.
    """
    path = snippet.save(directory)
    host = _start_in_terminal(processes, directory, path.name)
    _hears(host, host, f"{snippet}: the first answers")
    for number in (signal.SIGINT, signal.SIGKILL):
        other = _start_in_terminal(processes, directory, path.name)
        _hears(other, host, f"{snippet}: ... both")
        assert not any(f"pid {other.pid} heard" in line for line in other.lines)
        host.signal(number)
        _hears(other, other, f"{snippet}: after {number.name} the next takes over")
        assert host.popen.wait(DEADLINE) == -number
        assert other.errors() == ""
        host = other


def bus_takeover(snippet: Snippet, directory: Path, processes: Processes) -> None:
    """Three processes hear each other; the host is ended, first by Ctrl-C, and then it is killed.

    Who lives hears the others' numbers one after another, and each once.
    """
    path = snippet.save(directory)
    members = [_start_in_terminal(processes, directory, path.name) for _ in range(3)]
    for number in (signal.SIGINT, signal.SIGKILL):
        _all_hear_all(members)
        (host,) = [member for member in members if member.pid == host_pid()]
        members.remove(host)
        host.signal(number)
        assert host.popen.wait(DEADLINE) == -number
        wait_for(lambda: host_pid() in {member.pid for member in members}, "another hosts")
        _all_hear_all(members)


def _all_hear_all(members: list[Process]) -> None:
    """Each hears each from now on, and each one's numbers without a gap."""
    before = {member.pid: len(member.lines) for member in members}
    for member in members:
        for other in members:
            heard = f"news.{other.pid} number "

            def numbers(begin: int, member: Process = member, heard: str = heard) -> list[int]:
                lines = [line for line in member.lines[begin:] if line.startswith(heard)]
                return [int(line.removeprefix(heard)) for line in lines]

            what = f"pid {member.pid} hears pid {other.pid}"
            wait_for(lambda: numbers(before[member.pid]), what)  # noqa: B023
            got = numbers(0)
            assert got == list(range(got[0], got[0] + len(got))), what
        assert member.errors() == ""


def _start_in_terminal(processes: Processes, directory: Path, *arguments: object) -> Process:
    """Start a Python process that Ctrl-C ends: the jobs of a shell's script inherit that not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return start(processes, directory, *arguments)
    finally:
        signal.signal(signal.SIGINT, before)


def _hears(process: Process, host: Process, what: str) -> None:
    heard = f"pid {host.pid} "
    wait_for(lambda: any(line.startswith(heard) for line in process.lines), what)


class WebServer:
    """A web server with several workers, on a port of its own."""

    def __init__(self, processes: Processes, directory: Path, *arguments: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        # From here to the server's own bind() another process may take the port; none here does.
        arguments = tuple(argument.replace("PORT", str(self.port)) for argument in arguments)
        self.process = start(processes, directory, "-m", *arguments)

    def get(self, path: str = "/") -> str:
        """What a request returns; empty while the server does not answer."""
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE) as response:
                return str(response.read().decode())
        except (urllib.error.URLError, OSError):
            assert self.process.popen.poll() is None, self.process.errors()
            return ""

    def stop(self) -> int:
        """End it as a supervisor does; return its exit code."""
        self.process.signal(signal.SIGTERM)
        return int(self.process.popen.wait(DEADLINE))


_COUNTED = re.compile(r"pid (\d+): (\d+)")


def check_count(server: WebServer) -> None:
    """Two workers and more share one count; when the one that hosts is killed, they go on."""
    seen: list[tuple[str, int]] = []

    def ask() -> bool:
        match = _COUNTED.search(server.get())
        if match is not None:
            seen.append((match[1], int(match[2])))
        return match is not None

    wait_for(ask, "the server answers")
    wait_for(lambda: ask() and len({pid for pid, _ in seen}) > 1, "two workers answer")
    numbers = [number for _, number in seen]
    assert numbers == list(range(1, len(numbers) + 1))
    host = host_pid()
    assert str(host) in {pid for pid, _ in seen}
    os.kill(host, signal.SIGKILL)
    wait_for(lambda: host_pid() not in (0, host), "another hosts")
    before = len(seen)
    # All of them, and the new one too: gunicorn forgets a SIGTERM to a worker that is starting.
    wait_for(lambda: ask() and len({pid for pid, _ in seen[before:]}) > 1, "two workers answer")
    assert str(host) not in {pid for pid, _ in seen[before:]}
    assert seen[before][1] <= len(numbers)  # the count died with its host
    assert server.stop() == 0


def host_pid() -> int:
    """The process that hosts the only channel of this test's directory; 0 at a takeover."""
    (channel,) = list_channels(os.environ["OPEN_CHANNEL_DIR"])
    (host,) = channel.hosts
    return host.record.pid if host.record is not None else 0


def _gunicorn(snippet: Snippet, directory: Path, processes: Processes, *options: str) -> None:
    path = snippet.save(directory)
    check_count(
        WebServer(
            processes, directory, "gunicorn", "--workers=2", "--bind=127.0.0.1:PORT",
            "--no-control-socket", *options, f"{path.stem}:app",
        )
    )  # fmt: skip


def gunicorn(snippet: Snippet, directory: Path, processes: Processes) -> None:
    """A WSGI application under gunicorn."""
    _gunicorn(snippet, directory, processes)


def gunicorn_preload(snippet: Snippet, directory: Path, processes: Processes) -> None:
    """... that was imported before the workers were forked."""
    _gunicorn(snippet, directory, processes, "--preload")


def gunicorn_both(snippet: Snippet, directory: Path, processes: Processes) -> None:
    """... both ways."""
    gunicorn(snippet, directory, processes)
    gunicorn_preload(snippet, directory, processes)


def uvicorn(snippet: Snippet, directory: Path, processes: Processes) -> None:
    """An ASGI application under uvicorn."""
    path = snippet.save(directory)
    check_count(
        WebServer(processes, directory, "uvicorn", "--workers=2", "--port=PORT", f"{path.stem}:app")
    )


def example(snippet: Snippet, directory: Path, processes: Processes) -> None:
    """A file of ``examples/``, word for word; ``test_examples`` runs it."""
    assert snippet.code == (ROOT / "examples" / snippet.name).read_text(encoding="utf-8")


MODES: dict[str, Mode] = {
    "program": program,
    "example": example,
    "file": file,
    "fragment": fragment,
    "takeover": takeover,
    "bus takeover": bus_takeover,
    "gunicorn": gunicorn,
    "gunicorn with and without --preload": gunicorn_both,
    "uvicorn": uvicorn,
}
