"""Members in processes of their own, and the verbs that tests use on them."""

from __future__ import annotations

import itertools
import json
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from open_channel.io.directory import ChannelFiles
from open_channel.io.lockfile import read_file
from open_channel.protocol.records import HostRecord, decode_host
from tests.processes import DEADLINE, Process, Processes, wait_for

__all__ = ["QUICK", "Member", "agree", "all_handled", "files", "handled", "record", "start"]

SCRIPT = Path(__file__).with_name("member_script.py")
QUICK = {"heartbeat": 0.2, "timeout": 0.6}  # limits that let a test see a hung host soon


class Member(Process):
    """A process that runs ``member_script.py``."""

    _questions = itertools.count(1)

    def do(self, command: str, *arguments: object) -> None:
        self.send(json.dumps([command, *arguments]))

    def state(self, timeout: float = DEADLINE) -> dict[str, Any]:
        """What its channel says of itself now."""
        question = next(self._questions)
        self.do("state", question)
        state: dict[str, Any] = self.wait(
            lambda events: next((e for e in events if e.get("question") == question), None),
            "its state",
            timeout,
        )
        return state

    def connected(self, host: int = 0, after: int = 0, timeout: float = DEADLINE) -> dict[str, Any]:
        """Wait until it is connected, to ``host`` if that is given."""

        def found(events: list[dict[str, Any]]) -> dict[str, Any] | None:
            return next(
                (e for e in events[after:] if e.get("connected", 0) in _or_any(e, host)), None
            )

        event: dict[str, Any] = self.wait(found, f"connected to {host or 'anybody'}", timeout)
        return event

    def replies(self) -> list[str]:
        return [event["reply"] for event in list(self.events) if "reply" in event]

    def expect_replies(self, texts: Iterable[object], timeout: float = DEADLINE) -> None:
        """Wait until there is an answer to each of these messages."""
        wanted = {str(text) for text in texts}
        self.wait(
            lambda events: wanted <= {e["reply"] for e in events if "reply" in e},
            f"answers to {len(wanted)} messages",
            timeout,
        )

    def stop(self) -> None:
        """SIGSTOP, and wait until it is stopped."""
        self.signal(signal.SIGSTOP)
        self.wait_stopped()

    def wait_stopped(self) -> None:
        status = Path(f"/proc/{self.pid}/stat")
        wait_for(lambda: status.read_text().rsplit(")", 1)[1].split()[0] == "T", "it is stopped")

    def cont(self) -> float:
        """SIGCONT; return when that was."""
        now = time.monotonic()
        self.signal(signal.SIGCONT)
        return now


def _or_any(event: dict[str, Any], host: int) -> tuple[int, ...]:
    return (host,) if host else (event.get("connected", -1),)


def start(processes: Processes, **config: object) -> Member:
    """Start one member, or (``count``) a crowd."""
    member = Member([sys.executable, str(SCRIPT), json.dumps(config)])
    processes.adopt(member)
    return member


def files(directory: Path, name: str = "chat") -> ChannelFiles:
    return ChannelFiles.of(str(directory), name)


def record(directory: Path, name: str = "chat") -> HostRecord:
    """What the lock file of the listener service says; it is half written now and then."""
    lock = files(directory, name).lock("l")
    result: HostRecord = wait_for(lambda: decode_host(read_file(lock)[0]), f"a record in {lock}")
    return result


def agree(members: Iterable[Member], timeout: float = DEADLINE) -> int:
    """Wait until all are connected to one of them, which alone hosts; return its process id."""
    members = list(members)

    def host() -> int:
        states = [member.state() for member in members]
        peers = {state["peer"] for state in states}
        hosts = {state["pid"] for state in states if state["hosting"]}
        return peers.pop() if len(peers) == 1 and peers == hosts else 0

    pid: int = wait_for(host, "one host, and all connected to it", timeout)
    return pid


def handled(members: Iterable[Process], text: str = "") -> list[dict[str, Any]]:
    """What the listeners of these members are known to have handled, in order of time."""
    events = [e for m in members for e in list(m.events) if "handled" in e]
    return sorted(
        (e for e in events if not text or e["handled"] == text), key=lambda event: event["at"]
    )


def all_handled(members: Iterable[Member], text: str = "") -> list[dict[str, Any]]:
    """What they have handled by now: an answer may be here before the news of its handling."""
    members = list(members)
    for member in members:
        if member.popen.poll() is None:
            member.state()
        else:
            member.join()
    return handled(members, text)
