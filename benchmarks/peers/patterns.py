"""One measurement of one peer in one pattern: processes, the clock, CPU and memory of each.

CPU is read from the kernel for whole processes, all threads of them, when the clock starts and when
the last receiver has said that all is there; so a server of any kind counts like a process of ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from harness import BenchmarkError, Child, Crew, hear_any, percentile

from peers.peer import Peer, Place

Figures: TypeAlias = dict[str, float]
MEBIBYTE = 1 << 20
WAIT = 30.0
"""Seconds that a peer may take for anything before it counts as stuck."""


# --- what the kernel knows of a process -------------------------------------------------------


def cpu(pid: int) -> float:
    """Seconds of user and system time of all threads of a process so far."""
    # Linux: the id of another process's CPU clock, as clock_getcpuclockid() makes it.
    return time.clock_gettime((~pid << 3) | 2)


def memory(pid: int, field: str = "VmRSS") -> float:
    """Resident memory of a process in MiB; its peak as ``VmHWM``."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def private_memory(pid: int) -> float:
    """What a process takes of the machine's memory in MiB, shared pages by their share."""
    smaps = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(smaps.split("\nPss:")[1].split()[0]) / 1024


def forget_peak(pid: int) -> None:
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


class MemoryWatch:
    """Looks at the resident memory of a process each half second; of none, if there is no pid."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._seen: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> MemoryWatch:
        if self._pid is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._pid is not None:
            self._thread.join()
            self._seen.append(memory(self._pid))

    def _look(self) -> None:
        assert self._pid is not None
        while not self._end.wait(0.5):
            self._seen.append(memory(self._pid))

    def figures(self) -> Figures:
        """When a tenth of the time was over, at the end, and the highest after that tenth."""
        if not self._seen:
            return {}
        steady = self._seen[len(self._seen) // 10 :]
        return {"early_memory": steady[0], "late_memory": steady[-1], "highest": max(steady)}


# --- streams ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stream:
    """What is sent to whom, and who else is there."""

    count: int
    size: int = 64
    receivers: int = 1
    topics: int = 1
    members: int = 0
    """Idle members beside."""
    subscriptions: int = 0
    """Idle subscriptions of each of them."""
    wait: float = WAIT
    watch_memory: bool = False
    """Whether to look at the host's memory each half second."""


def deliver(peer: Peer, stream: Stream) -> Figures:
    """Send a stream once; the figures of it. Raises BenchmarkError when anything goes wrong."""
    with Crew() as crew:
        place = peer.start(crew, peer.loop)
        if stream.members:
            add_crowd(crew, peer, place, stream)
        topics = {"topics": stream.topics} if stream.topics > 1 else {}
        common = {"address": place.address, "count": stream.count, "size": stream.size}
        common |= {**peer.options, **topics}
        receive, send = peer.receive, peer.send
        assert receive is not None
        assert send is not None
        takers = [
            crew.spawn(receive, loop=peer.loop, index=index, **common)
            for index in range(stream.receivers)
        ]
        for taker in takers:
            expect(taker, "listening")
        giver = crew.spawn(send, loop=peer.loop, receivers=stream.receivers, **common)
        expect(giver, "connected")
        expect_all(takers, "live", [giver])
        giver.tell(go=True)
        expect_all(takers, "ready", [giver])
        return _timed(giver, takers, place, stream)


def _timed(giver: Child, takers: Sequence[Child], place: Place, stream: Stream) -> Figures:
    pids = {"publisher": [giver.pid], "subscribers": [taker.pid for taker in takers]}
    if place.pid is not None:
        pids["host"] = [place.pid]
        forget_peak(place.pid)
        resident = memory(place.pid)
    else:
        resident = 0.0
    before = {name: sum(map(cpu, some)) for name, some in pids.items()}
    with MemoryWatch(place.pid if stream.watch_memory else None) as watch:
        giver.tell(go=True)
        ends = expect_all(takers, "at", [giver], stream.wait)
        sent = expect(giver, "begun")
    spent = {name: sum(map(cpu, some)) - before[name] for name, some in pids.items()}
    received = sum(end["received"] for end in ends)
    if received != stream.count * len(takers) or sent["sent"] != stream.count:
        raise BenchmarkError(f"{received} messages arrived of {sent['sent']} for each")
    seconds = (max(end["at"] for end in ends) - sent["begun"]) / 1e9
    figures = {
        "count": float(stream.count),
        "seconds": seconds,
        "rate": received / seconds,
        "publisher_cpu_us": spent["publisher"] / stream.count * 1e6,
        "subscriber_cpu_us": spent["subscribers"] / received * 1e6,
    }
    if place.pid is not None:
        figures |= {
            "host_cpu_us": spent["host"] / stream.count * 1e6,
            "host_memory": memory(place.pid, "VmHWM"),
            "host_memory_growth": memory(place.pid, "VmHWM") - resident,
            **watch.figures(),
        }
    return figures


def add_crowd(crew: Crew, peer: Peer, place: Place, stream: Stream) -> list[Child]:
    """Members that only are there, up to fifty in each process."""
    assert peer.crowd is not None
    crowd = []
    for first in range(0, stream.members, 50):
        members = min(50, stream.members - first)
        arguments = {"members": members, "subscriptions": stream.subscriptions}
        arguments |= {"address": place.address, **peer.options}
        crowd.append(crew.spawn(peer.crowd, loop=peer.loop, **arguments))
    expect_all(crowd, "listening")
    return crowd


# --- requests ---------------------------------------------------------------------------------


def requests(peer: Peer, count: int, size: int = 64, fresh: bool = False) -> Figures:
    """Requests one at a time; with ``fresh`` each from a client of its own."""
    with Crew() as crew:
        place = peer.start(crew, peer.loop)
        respond, request = peer.respond, peer.request
        assert respond is not None
        assert request is not None
        common = {"address": place.address, **peer.options}
        responder = crew.spawn(respond, loop=peer.loop, **common)
        expect(responder, "listening")
        begun = time.monotonic()
        arguments = {"count": count, "size": size, "fresh": fresh}
        requester = crew.spawn(request, loop=peer.loop, **common, **arguments)
        times = expect(requester, "times")["times"]
        whole = time.monotonic() - begun
        if len(times) != count:
            raise BenchmarkError(f"{len(times)} of {count} requests were answered")
        shares = {f"p{share}_us": percentile(times, share) * 1e6 for share in (50, 90, 99)}
        return {"count": float(count), "seconds": sum(times), "process_seconds": whole, **shares}


# --- idle -------------------------------------------------------------------------------------


def idle(peers: Sequence[Peer], seconds: float) -> dict[str, Figures]:
    """A waiting member and what is in the middle, of all peers at once, while nothing happens."""
    with Crew() as crew:
        watched: dict[str, dict[str, int]] = {}
        for peer in peers:
            # Each has a directory of its own, as in the other patterns.
            place = peer.start(crew, peer.loop)
            assert peer.receive is not None
            arguments = {"address": place.address, "index": 0, "count": 1, "size": 64}
            taker = crew.spawn(peer.receive, loop=peer.loop, **arguments, **peer.options)
            expect(taker, "listening")
            watched[peer.key] = {"member": taker.pid}
            if place.pid is not None:
                watched[peer.key]["host"] = place.pid
        before = {pid: cpu(pid) for pids in watched.values() for pid in pids.values()}
        time.sleep(seconds)  # the measurement itself: nothing is to happen
        found: dict[str, Figures] = {}
        for key, pids in watched.items():
            found[key] = {}
            for who, pid in pids.items():
                found[key][f"{who}_cpu_ms"] = (cpu(pid) - before[pid]) / seconds * 1e3
                found[key][f"{who}_memory"] = memory(pid)
                found[key][f"{who}_private_memory"] = private_memory(pid)
        return found


# --- listening to children ------------------------------------------------------------------------


def expect(child: Child, word: str) -> dict[str, Any]:
    """The child's next message, which must have this word in it."""
    return expect_all([child], word)[0]


def expect_all(
    children: Sequence[Child],
    word: str,
    watching: Sequence[Child] = (),
    wait: float = WAIT,
) -> list[dict[str, Any]]:
    """One message of each of the children, all with this word; the others must live meanwhile."""
    found: dict[int, dict[str, Any]] = {}
    deadline = time.monotonic() + wait
    while len(found) < len(children):
        waiting = [child for child in children if child.pid not in found]
        child, message = hear_any(waiting, max(0.1, deadline - time.monotonic()), watching)
        if "error" in message:
            raise BenchmarkError(f"{child.role}: {message['error']}")
        if word not in message:
            raise BenchmarkError(f"{child.role} said {message} instead of {word}")
        found[child.pid] = message
    return [found[child.pid] for child in children]
