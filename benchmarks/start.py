"""Start: the cost of the import, and of ``open_channel()`` to connected where nobody hosts yet.

Import: fresh interpreters run ``pass``, ``import asyncio`` and ``import open_channel`` in turns.
Shown are the whole process as its parent sees it, the same less the bare interpreter (the goal's
ratio is of these), and the import statement alone, timed inside. A first round that is not counted
fills the bytecode and file caches.

Connect: each sample is a fresh process in an empty directory, so that it must elect itself, bind,
listen, and connect. Its code is a plain script: a helper of the harness would have imported things
on the library's account. The baseline is ``create_unix_server`` and ``create_unix_connection`` in
one process.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from harness import (
    DEADLINE,
    BenchmarkError,
    Crew,
    Goal,
    Report,
    Settings,
    Table,
    child_environment,
    percentile,
)

IMPORT_GOAL = 1.3
CONNECT_GOAL = 10.0  # ms

IMPORT = """
import time
begun = time.perf_counter_ns()
{statement}
print(time.perf_counter_ns() - begun)
"""

BARE_CONNECT = """
import asyncio, os, time
import {loop}

async def main():
    loop, path = asyncio.get_running_loop(), os.environ["OPEN_CHANNEL_DIR"] + "/bare"
    begun = time.perf_counter_ns()
    await loop.create_unix_server(asyncio.Protocol, path)
    await loop.create_unix_connection(asyncio.Protocol, path)
    print(time.perf_counter_ns() - begun)

with asyncio.Runner(loop_factory={loop}.new_event_loop) as runner:
    runner.run(main())
"""

OUR_CONNECT = """
import asyncio, time
import {loop}
from open_channel import open_channel

async def listener(socket):
    async for message in socket:
        socket.write(message)

async def main():
    begun = time.perf_counter_ns()
    socket = open_channel("start", listener).connect(timeout=10.0)
    await socket.wait_connected()
    print(time.perf_counter_ns() - begun)
    socket.destroy()

with asyncio.Runner(loop_factory={loop}.new_event_loop) as runner:
    runner.run(main())
"""


def run_script(script: str, directory: Path) -> tuple[float, float]:
    """Milliseconds of a fresh interpreter as a whole, and those that the script printed."""
    begun = time.perf_counter_ns()
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=child_environment(directory),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"a script hangs:\n{script}") from error
    whole = time.perf_counter_ns() - begun
    if done.returncode:
        raise BenchmarkError(f"a script failed:\n{done.stderr[-3000:]}")
    return whole / 1e6, int(done.stdout) / 1e6


def run(settings: Settings) -> Report:
    report = Report("start")
    imports(settings, report)
    connects(settings, report)
    return report


def imports(settings: Settings, report: Report) -> None:
    rounds = 20 if settings.quick else 60
    statements = ["pass", "import asyncio", "import open_channel"][: 3 if settings.ours else 2]
    whole: dict[str, list[float]] = {statement: [] for statement in statements}
    alone: dict[str, list[float]] = {statement: [] for statement in statements}
    with Crew() as crew:
        for count in range(rounds + 1):
            for statement in statements:
                outside, inside = run_script(IMPORT.format(statement=statement), crew.directory)
                if count:
                    whole[statement].append(outside)
                    alone[statement].append(inside)

    header = ("statement", "process p50 ms", "p99 ms", "less bare ms", "import alone ms", "p99 ms")
    table = Table(f"import, {rounds} fresh interpreters each", header)
    report.tables.append(table)
    bare = statistics.median(whole["pass"])
    process = {statement: statistics.median(found) for statement, found in whole.items()}
    inside_median = {statement: statistics.median(found) for statement, found in alone.items()}
    for statement in statements:
        row = (process[statement], percentile(whole[statement], 99), process[statement] - bare)
        table.rows.append(
            (statement, *row, inside_median[statement], percentile(alone[statement], 99))
        )
    if not settings.ours:
        return
    theirs, ours = statements[1:]
    ratio = (process[ours] - bare) / (process[theirs] - bare)
    report.goals.append(
        Goal("import open_channel to import asyncio, bare start taken off", IMPORT_GOAL, ratio)
    )
    report.notes.append(
        f"The same ratio for whole processes: {process[ours] / process[theirs]:.2f};"
        f" for the import statements alone: {inside_median[ours] / inside_median[theirs]:.2f}."
    )


def connects(settings: Settings, report: Report) -> None:
    rounds = 20 if settings.quick else 50
    scripts = {"bare asyncio": BARE_CONNECT, "open_channel": OUR_CONNECT}
    if not settings.ours:
        del scripts["open_channel"]
    header = ("loop", "contestant", "p50 ms", "p99 ms", "max ms")
    table = Table(
        f"to connected in a process that must host, {rounds} fresh processes each", header
    )
    report.tables.append(table)
    for loop in settings.loops:
        samples: dict[str, list[float]] = {contestant: [] for contestant in scripts}
        for count in range(rounds + 1):
            for contestant, script in scripts.items():
                with Crew() as crew:
                    _, inside = run_script(script.format(loop=loop), crew.directory)
                if count:
                    samples[contestant].append(inside)
        for contestant, found in samples.items():
            table.rows.append(
                (loop, contestant, *(percentile(found, share) for share in (50, 99, 100)))
            )
        if settings.ours:
            reached = percentile(samples["open_channel"], 50)
            goal = Goal(
                f"open_channel() to connected, p50, {loop}", CONNECT_GOAL, reached, unit="ms"
            )
            report.goals.append(goal)
