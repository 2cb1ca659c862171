"""The workers of gunicorn and uvicorn, which nobody here has started, talk over one channel."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from open_channel.io.presence import list_members
from tests.integration.members import files, record, start
from tests.processes import Process, Processes, wait_for

ROOT = Path(__file__).parents[2]
TROUBLE = ("Traceback", "Exception", "ERROR", "Error", "never awaited", "destroyed but")


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


class Server:
    """A web server with its workers behind one Unix socket."""

    def __init__(self, processes: Processes, path: Path, *command: str, **variables: str) -> None:
        self.path = path
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        arguments = [sys.executable, "-m", *command]
        self.process = processes.adopt(Process(arguments, env=environment, cwd=ROOT))

    def get(self, said: str = "") -> dict[str, Any]:
        """One request; nothing when nobody answered."""
        connection = Connection(self.path)
        try:
            connection.request("GET", f"/?{said}")
            response = connection.getresponse()
            assert response.status == 200
            answer: dict[str, Any] = json.loads(response.read())
            return answer
        except OSError:
            return {}
        finally:
            connection.close()

    def workers(self, count: int, said: str = "") -> dict[int, dict[str, Any]]:
        """Ask until ``count`` workers have answered; return the last answer of each."""
        answers: dict[int, dict[str, Any]] = {}

        def all_answered() -> bool:
            if answer := self.get(said):
                answers[answer["pid"]] = answer
            return len(answers) == count

        wait_for(all_answered, f"answers of {count} workers, not only of {answers}: {self}")
        return answers

    def agreed(self, count: int, others: int = 0) -> tuple[int, set[int]]:
        """Wait until all workers are connected to one host; return it, and them.

        It has ``count`` clients then, and ``others`` that are no workers.
        """

        def agree() -> tuple[int, set[int]] | None:
            answers = self.workers(count)
            hosts = {answer["peer"] for answer in answers.values()}
            return (hosts.pop(), set(answers)) if len(hosts) == 1 and hosts != {0} else None

        result: tuple[int, set[int]] = wait_for(agree, f"one host: {self}")
        known = f"{count + others} clients of {result[0]}"
        wait_for(lambda: known in self.get("count").get("heard", ()), f"{known}: {self}")
        return result

    def heard_by_all(self, count: int, wanted: set[str]) -> dict[int, list[str]]:
        """Wait until all workers have heard what was said."""

        def all_heard() -> dict[int, list[str]] | None:
            answers = self.workers(count)
            done = all(wanted <= set(answer["heard"]) for answer in answers.values())
            return {pid: answer["heard"] for pid, answer in answers.items()} if done else None

        result: dict[int, list[str]] = wait_for(all_heard, f"all have heard {wanted}: {self}")
        return result

    def __repr__(self) -> str:
        return self.process.errors()[-3000:]

    def stop(self, *tolerated: str) -> None:
        """SIGTERM, and it ends without trouble."""
        self.process.signal(signal.SIGTERM)
        assert self.process.popen.wait(20) in (0, -signal.SIGTERM)
        output = "\n".join([self.process.errors(), *self.process.lines])
        lines = [line for line in output.splitlines() if any(word in line for word in TROUBLE)]
        assert [line for line in lines if not any(word in line for word in tolerated)] == [], output


def gunicorn(channel_dir: Path, processes: Processes, at_import: str = "connect") -> Server:
    path = channel_dir / "http"
    return Server(
        processes,
        path,
        *("gunicorn", "--preload", "--workers=3", f"--bind=unix:{path}", "--graceful-timeout=5"),
        *("--config=tests/integration/gunicorn_conf.py", "--no-control-socket"),
        "tests.integration.web_apps:wsgi",
        AT_IMPORT=at_import,
    )


def uvicorn(channel_dir: Path, processes: Processes) -> Server:
    path = channel_dir / "http"
    return Server(
        processes,
        path,
        *("uvicorn", "--workers=4", f"--uds={path}", "--log-level=info"),
        "tests.integration.web_apps:asgi",
    )


def present(directory: Path) -> set[int]:
    """The processes that have a channel open."""
    return {member.pid for member in list_members(files(directory, "web"))}


def test_gunicorn_with_a_channel_connected_before_the_fork(
    channel_dir: Path, processes: Processes
) -> None:
    server = gunicorn(channel_dir, processes)
    parent = server.process.pid
    host, workers = server.agreed(3, others=1)
    assert host == parent  # it opened the channel first, and is unharmed
    assert parent not in workers
    assert present(channel_dir) == workers | {parent}  # each is a member of its own
    first = server.get("one")
    heard = server.heard_by_all(3, {f"{first['pid']} one"})
    said = [[text for text in texts if "clients" not in text] for texts in heard.values()]
    assert said == [[f"{first['pid']} one"]] * 3

    server.process.signal(signal.SIGHUP)  # a graceful restart: other workers, same parent
    wait_for(lambda: not workers & present(channel_dir), "the old workers have left")
    host, restarted = server.agreed(3, others=1)
    assert host == parent
    assert not workers & restarted
    second = server.get("two")
    server.heard_by_all(3, {f"{second['pid']} two"})
    assert server.process.popen.poll() is None
    server.stop()
    wait_for(lambda: not present(channel_dir), "all have left")


def test_gunicorn_with_a_channel_opened_before_the_fork(
    channel_dir: Path, processes: Processes
) -> None:
    """Opened and no more: nothing has started in the parent, and one of the workers hosts."""
    server = gunicorn(channel_dir, processes, at_import="open")
    host, workers = server.agreed(3)
    assert host in workers
    assert present(channel_dir) == workers
    answer = server.get("hello")
    server.heard_by_all(3, {f"{answer['pid']} hello"})
    server.process.signal(signal.SIGHUP)  # the host leaves in order, like the others
    wait_for(lambda: not workers & present(channel_dir), "the old workers have left")
    host, restarted = server.agreed(3)
    assert host in restarted
    assert not workers & restarted
    answer = server.get("again")
    server.heard_by_all(3, {f"{answer['pid']} again"})
    server.stop()
    wait_for(lambda: not present(channel_dir), "all have left")


def test_gunicorn_when_a_worker_is_killed(channel_dir: Path, processes: Processes) -> None:
    server = gunicorn(channel_dir, processes)
    _, workers = server.agreed(3, others=1)
    os.kill(min(workers), signal.SIGKILL)
    wait_for(lambda: min(workers) not in present(channel_dir), "its presence is over")
    host, others = server.agreed(3, others=1)
    assert host == server.process.pid
    assert len(workers & others) == 2
    answer = server.get("after")
    server.heard_by_all(3, {f"{answer['pid']} after"})
    server.stop("was sent SIGKILL")


def test_uvicorn_when_the_hosting_worker_is_killed(channel_dir: Path, processes: Processes) -> None:
    server = uvicorn(channel_dir, processes)
    host, workers = server.agreed(4)
    assert host in workers
    said = {f"{server.get('before')['pid']} before"}
    server.heard_by_all(4, said)
    for epoch in (2, 3):
        # One from elsewhere writes all the while, and has an answer to everything.
        client = start(processes, name="web", listens=False)
        client.connected(host)
        client.do("stream", 1, 300, 0.003)
        os.kill(host, signal.SIGKILL)
        survivors = workers - {host}
        host, workers = server.agreed(4, others=1)
        assert record(channel_dir, "web").epoch == epoch
        assert survivors < workers
        answer = server.get(f"epoch-{epoch}")
        server.heard_by_all(4, {f"{answer['pid']} epoch-{epoch}"})
        client.expect("streamed")
        client.expect_replies(range(1, 301))
        client.kill()
    server.stop()
    wait_for(lambda: not present(channel_dir), "all have left")
