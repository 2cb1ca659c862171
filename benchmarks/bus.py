"""The bus: a stream and requests through a host in a third process, next to peers without one.

**Stream**, 64-byte messages from one process to another:

- **pyzmq PAIR**: two processes, directly connected, no host and no guarantees; the sender calls
  ``send()`` for each message, the receiver ``recv()``.
- **open_channel**: publisher, host and subscriber in three processes. The publisher calls ``await
  channel.publish(topic, body)`` for each message; the subscriber iterates over messages, or over
  batches. Everything is acknowledged by the subscriber, and the publisher flushes at the end.

The clock runs from the first send until the receiver's answer to the last message is back at the
sender. CPU is user and system time of each process during that.

**Request**, 64 bytes there and back:

- **four hops**: a bare ``selectors`` loop in the middle passes on what it gets, from a blocking
  client to a blocking responder and back: the floor for anything that goes through a third process.
- **open_channel**: ``await channel.request("echo", body)`` in one process, ``serve()`` in another,
  the host in a third.
"""

from __future__ import annotations

import os
import selectors
import socket as sockets
import time
from itertools import repeat
from typing import Any

from harness import (
    DEADLINE,
    BenchmarkError,
    Crew,
    Goal,
    Report,
    Settings,
    Table,
    median_ratio,
    percentile,
    say,
    until_dismissed,
)

BODY = bytes(range(64))
TOPIC = "orders.eu"


def cpu() -> float:
    times = os.times()
    return times.user + times.system


# --- stream: pyzmq ----------------------------------------------------------------------------


def zmq_receiver(path: str, count: int) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PAIR) as pair:
        pair.bind(f"ipc://{path}")
        say(ready=True)
        for _ in range(count):
            pair.recv()
        pair.send(b"done")
        say(cpu=cpu())


def zmq_sender(path: str, count: int) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PAIR) as pair:
        pair.connect(f"ipc://{path}")
        before = cpu()
        begun = time.perf_counter()
        for body in repeat(BODY, count):
            pair.send(body)
        pair.recv()
        say(seconds=time.perf_counter() - begun, cpu=cpu() - before)


# --- stream: ours -----------------------------------------------------------------------------


async def host() -> None:
    from open_channel import open_channel

    async with open_channel("bench"):
        before = cpu()
        say(pid=os.getpid())
        await until_dismissed()
        say(cpu=cpu() - before)


async def subscriber(count: int, batches: bool) -> None:
    from open_channel import open_channel

    async with (
        open_channel("bench", hosts=False) as channel,
        channel.subscribe(TOPIC, queue=1 << 40) as orders,
    ):
        before = cpu()
        say(ready=True)
        received = 0
        if batches:
            async for batch in orders.batches():
                received += len(batch)
                if received >= count:
                    break
        else:
            async for _ in orders:
                received += 1
                if received == count:
                    break
        await channel.publish("answer", str(received))
        say(cpu=cpu() - before)
        await until_dismissed()


async def publisher(count: int) -> None:
    from open_channel import open_channel

    async with (
        open_channel("bench", hosts=False) as channel,
        channel.subscribe("answer") as answers,
    ):
        before = cpu()
        begun = time.perf_counter()
        publish = channel.publish
        for body in repeat(BODY, count):
            await publish(TOPIC, body)
        answer = await answers.get()
        seconds = time.perf_counter() - begun
        await channel.flush()
        if answer.data != str(count):
            raise BenchmarkError(f"{answer.data} of {count} messages arrived")
        say(seconds=seconds, cpu=cpu() - before, missed=channel.stats().missed)


def stream_zmq(count: int) -> dict[str, float]:
    with Crew() as crew:
        path = f"{crew.directory}/pair"
        receiver = crew.spawn(zmq_receiver, path=path, count=count)
        receiver.hear()
        sender = crew.spawn(zmq_sender, path=path, count=count)
        sent = sender.hear()
        return {"rate": count / sent["seconds"], "publisher": sent["cpu"], "host": 0.0}


def stream_ours(count: int, loop: str, batches: bool) -> dict[str, float]:
    with Crew() as crew:
        hosting = crew.spawn(host, loop=loop)
        hosting.hear()
        receiver = crew.spawn(subscriber, loop=loop, count=count, batches=batches)
        receiver.hear()
        sender = crew.spawn(publisher, loop=loop, count=count)
        sent = sender.hear()
        taken = receiver.hear()
        assert hosting.process.stdin is not None
        hosting.process.stdin.close()
        spent = hosting.hear()
        hosting.process.stdin = None
        return {
            "rate": count / sent["seconds"],
            "publisher": sent["cpu"],
            "subscriber": taken["cpu"],
            "host": spent["cpu"],
        }


# --- requests ---------------------------------------------------------------------------------


def middle(path: str) -> None:
    with sockets.socket(sockets.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        say(ready=True)
        ends = [server.accept()[0], server.accept()[0]]
        other = {ends[0]: ends[1], ends[1]: ends[0]}
        with selectors.DefaultSelector() as selector:
            for end in ends:
                end.setblocking(False)
                selector.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    end: Any = key.fileobj
                    data = end.recv(65536)
                    if not data:
                        return
                    other[end].send(data)


def bare_responder(path: str) -> None:
    with sockets.socket(sockets.AF_UNIX) as end:
        end.connect(path)
        say(ready=True)
        while data := end.recv(65536):
            end.sendall(data)


def bare_requester(path: str, count: int) -> None:
    with sockets.socket(sockets.AF_UNIX) as end:
        end.connect(path)
        say(times=[_timed(end) for _ in range(count)])


def _timed(end: sockets.socket) -> float:
    begun = time.perf_counter()
    end.sendall(BODY)
    end.recv(65536)
    return time.perf_counter() - begun


async def responder() -> None:
    from open_channel import open_channel

    async with (
        open_channel("bench", hosts=False) as channel,
        channel.serve("echo", lambda request: request.body),
    ):
        say(ready=True)
        await until_dismissed()


async def requester(count: int) -> None:
    from open_channel import open_channel

    async with open_channel("bench", hosts=False) as channel:
        times: list[float] = []
        for _ in range(count):
            begun = time.perf_counter()
            await channel.request("echo", BODY)
            times.append(time.perf_counter() - begun)
        say(times=times)


def requests_bare(count: int) -> list[float]:
    with Crew() as crew:
        path = f"{crew.directory}/middle"
        crew.spawn(middle, path=path).hear()
        crew.spawn(bare_responder, path=path).hear()
        return list(crew.spawn(bare_requester, path=path, count=count).hear()["times"])


def requests_ours(count: int, loop: str) -> list[float]:
    with Crew() as crew:
        crew.spawn(host, loop=loop).hear()
        crew.spawn(responder, loop=loop).hear()
        return list(crew.spawn(requester, loop=loop, count=count).hear(DEADLINE)["times"])


# --- report -----------------------------------------------------------------------------------


def run(settings: Settings) -> Report:
    report = Report("bus")
    _stream(report, settings)
    _requests(report, settings)
    return report


def _stream(report: Report, settings: Settings) -> None:
    rounds, count = (2, 200_000) if settings.quick else (5, 1_000_000)
    table = Table(
        f"stream of {count:,} messages of 64 bytes, medians of {rounds} rounds",
        ["loop", "what", "messages/s", "publisher CPU s", "host CPU s"],
    )
    report.tables.append(table)
    try:
        import zmq
    except ImportError:
        report.notes.append("pyzmq is not installed: the stream has no peer here.")
        zmq = None
    for loop in settings.loops if settings.ours else ():
        found: dict[str, list[dict[str, float]]] = {"messages": [], "batches": [], "pair": []}
        for _ in range(rounds):
            if zmq is not None:
                found["pair"].append(stream_zmq(count))
            found["messages"].append(stream_ours(count, loop, batches=False))
            found["batches"].append(stream_ours(count, loop, batches=True))
        for name, figures in found.items():
            if figures:
                row = [
                    percentile([f[what] for f in figures], 50)
                    for what in ("rate", "publisher", "host")
                ]
                what = "pyzmq PAIR, direct" if name == "pair" else f"open_channel, {name}"
                table.rows.append([loop, what, *row])
        if zmq is not None:
            pair = [f["rate"] for f in found["pair"]]
            for name in ("messages", "batches"):
                ratio = median_ratio([f["rate"] for f in found[name]], pair)
                goal = Goal(f"stream ({name}) to pyzmq PAIR, {loop}", 1.0, ratio, at_most=False)
                report.goals.append(goal)
        share = median_ratio(
            [f["host"] for f in found["messages"]], [f["publisher"] for f in found["messages"]]
        )
        report.goals.append(Goal(f"CPU of the host to the publisher's, {loop}", 0.5, share))


def _requests(report: Report, settings: Settings) -> None:
    count = 1000 if settings.quick else 10_000
    table = Table(
        f"{count:,} requests of 64 bytes, one at a time", ["loop", "what", "p50 us", "p99 us"]
    )
    report.tables.append(table)
    bare = requests_bare(count)
    _row(table, "blocking", "four hops, bare", bare)
    for loop in settings.loops if settings.ours else ():
        ours = requests_ours(count, loop)
        again = requests_bare(count)
        _row(table, loop, "open_channel", ours)
        floor = (percentile(bare, 50) + percentile(again, 50)) / 2
        ratio = percentile(ours, 50) / floor
        report.goals.append(Goal(f"request, p50, to four bare hops, {loop}", 3.0, ratio))


def _row(table: Table, loop: str, what: str, times: list[float]) -> None:
    table.rows.append([loop, what, percentile(times, 50) * 1e6, percentile(times, 99) * 1e6])
