"""What the demonstration shows while it runs, and the table at its end."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.text import Text

from open_channel.cli.output import console, grid, print_json, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from open_channel.cli.demo.state import Demo

__all__ = ["View", "view_of"]

_FRESH = 0.25  # seconds between two pictures
_WINDOW = 1.0  # seconds over which the rate is taken
_TAKEOVERS = 8  # that fit on the screen
_BARS = " ▁▂▃▄▅▆▇█"


class View(ABC):
    """Shows the demonstration; a context, at whose end the terminal is in order."""

    def __enter__(self) -> View:
        """Begin to show."""
        return self

    @abstractmethod
    def __exit__(self, *error: object) -> None:
        """Leave the terminal in order."""

    @abstractmethod
    def show(self, demo: Demo) -> None:
        """Called at every turn; shows something when it is time."""

    @abstractmethod
    def close(self, demo: Demo, words: str) -> None:
        """Show the closing table; ``words`` is what the workers wrote to standard error."""


def view_of(demo: Demo, *, plain: bool, as_json: bool = False) -> View:
    """The live view on a terminal, the plain one elsewhere or when it is asked for."""
    if as_json:
        return _Json()
    return _Plain(demo) if plain or not sys.stdout.isatty() else _Lively(demo)


class _Rate:
    """Messages a second, over the last second."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def take(self, now: float, count: int) -> float:
        points = self._points
        points.append((now, count))
        while len(points) > 2 and points[1][0] <= now - _WINDOW:
            points.popleft()
        (since, before), (until, after) = points[0], points[-1]
        return (after - before) / (until - since) if until > since else 0.0


def _heading(demo: Demo) -> str:
    settings, play = demo.settings, demo.play
    return (
        f"{play.heading()}, {play.candidates} processes that stand for host, "
        f"{settings.seconds:g} s; the host is killed every {settings.every:g} s"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms"


def _closing(demo: Demo) -> list[tuple[str, str, str]]:
    """The table at the end: what, how much, and what that means."""
    play, pauses = demo.play, demo.pauses
    rows = [(row.label, f"{row.value:,}", row.meaning) for row in play.rows()]
    rows.append(("takeovers", f"{len(pauses):,}", "after a host was killed"))
    if pauses:
        rows.append(("median pause", _ms(demo.median_pause), play.pause))
        rows.append(("worst pause", _ms(max(pauses)), play.pause))
    return rows


def _verdict(demo: Demo) -> str:
    return demo.play.praise if demo.play.clean else "What was promised was not kept."


# --- for programs ---------------------------------------------------------------------------------


class _Json(View):
    """The closing table as one document, and nothing before it."""

    def __exit__(self, *error: object) -> None:
        """See ``View``."""

    def show(self, demo: Demo) -> None:
        """See ``View``."""

    def close(self, demo: Demo, words: str) -> None:
        """See ``View``."""
        pauses = demo.pauses
        rows = {row.label.replace(" ", "_"): row.value for row in demo.play.rows()}
        takeovers = [
            {
                "after": round(takeover.after, 3),
                "killed": takeover.killed,
                "host": takeover.host or None,
                "pause": takeover.pause,
            }
            for takeover in demo.takeovers
        ]
        document = {
            "clean": demo.play.clean,
            **rows,
            "takeovers": takeovers,
            "median_pause": demo.median_pause if pauses else None,
            "worst_pause": max(pauses, default=None),
            "errors": words,
        }
        print_json(document)


# --- plain ----------------------------------------------------------------------------------------


class _Plain(View):
    """A line a second, for logs."""

    def __init__(self, demo: Demo) -> None:
        self._rate = _Rate()
        self._due = 0.0
        print(f"{_heading(demo)}; in {demo.directory}", flush=True)

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, demo: Demo) -> None:
        if not demo.begun:
            return
        rate = self._rate.take(time.monotonic(), demo.play.received)
        if demo.elapsed < self._due:
            return
        self._due += 1.0
        host = f"pid {demo.host.pid}" if demo.host else "nobody"
        pause = f", last pause {_ms(demo.pauses[-1])}" if demo.pauses else ""
        print(
            f"{demo.elapsed:5.1f} s  host {host}  {rate:9,.0f} messages/s  "
            f"takeovers {len(demo.pauses)}{pause}",
            flush=True,
        )

    def close(self, demo: Demo, words: str) -> None:
        if words:
            print(f"The processes wrote to standard error:\n{words}")
        rows = _closing(demo)
        width = max(len(value) for _, value, _ in rows)
        for label, value, meaning in rows:
            print(f"{label:12}  {value:>{width}}  {meaning}")
        print(_verdict(demo), flush=True)


# --- live -----------------------------------------------------------------------------------------


class _Lively(View):
    """A picture of now, in place."""

    def __init__(self, demo: Demo) -> None:
        self._console = console()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._rate = _Rate()
        self._bars: deque[float] = deque(maxlen=40)
        self._due = 0.0
        self._console.print(_heading(demo))

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, demo: Demo) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _FRESH
        rate = self._rate.take(now, demo.play.received)
        self._bars.append(rate)
        self._live.update(self._picture(demo, rate), refresh=True)

    def _picture(self, demo: Demo, rate: float) -> RenderableType:
        if not demo.begun:
            return Text("starting the processes", style="dim")
        play, host = demo.play, demo.host
        hosting = f"pid {host.pid}, epoch {host.epoch}" if host else "nobody"
        highest = max(self._bars) or 1.0
        bars = "".join(_BARS[round(bar / highest * (len(_BARS) - 1))] for bar in self._bars)
        facts = grid(
            [
                ("time", f"{min(demo.elapsed, demo.settings.seconds):.1f} s"),
                ("host", Text(hosting if demo.settled else "killed", "green")),
                ("rate", Text.assemble(f"{rate:11,.0f} messages/s  ", (bars, "cyan"))),
                (play.labels[0], f"{play.sent:11,}"),
                (play.labels[1], f"{play.received:11,}"),
            ]
        )
        return Group(Text(), facts, self._takeovers(demo))

    def _takeovers(self, demo: Demo) -> RenderableType:
        rows: list[tuple[str, ...]] = []
        for takeover in demo.takeovers[-_TAKEOVERS:]:
            pause = "..." if takeover.pause is None else _ms(takeover.pause)
            host = str(takeover.host or "...")
            rows.append((f"{takeover.after:.1f} s", str(takeover.killed), host, pause))
        return table(">killed at", ">pid", ">next host", ">pause", rows=rows)

    def close(self, demo: Demo, words: str) -> None:
        self._live.stop()
        if words:
            self._console.print(f"The processes wrote to standard error:\n{words}", style="yellow")
        self._console.print(self._takeovers(demo))
        rows = [(label, value, Text(text, "dim")) for label, value, text in _closing(demo)]
        self._console.print(table("", ">", "", rows=rows))
        style = "bold green" if demo.play.clean else "bold red"
        self._console.print(Text(_verdict(demo), style))
