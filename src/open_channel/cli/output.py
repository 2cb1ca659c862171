"""How the commands speak: plain words for times, one JSON document, tables of one look."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from open_channel.errors import ChannelError

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["age", "console", "fail", "grid", "print_json", "refusals", "table", "warn"]

_PIPE_WIDTH = 160  # columns for what is not a terminal; Rich would cut at 80


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to ``refusals()``; Rich's own would end with exit code 1."""
        raise  # noqa: PLE0704 (called while it is handled)


def console() -> Console:
    """A console that prints channel names as they are."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return _Console(width=width, markup=False, highlight=False, emoji=False)


def table(*columns: str, rows: Sequence[Sequence[RenderableType]], title: str = "") -> Table:
    """A table; a column whose name begins with ``>`` is aligned to the right."""
    made = Table(
        box=box.SIMPLE_HEAD,
        title=title or None,
        title_justify="left",
        pad_edge=False,
        show_header=any(column.strip(">") for column in columns),
    )
    for column in columns:
        right = column.startswith(">")
        made.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def grid(rows: Sequence[tuple[str, RenderableType]]) -> Table:
    """Facts, one a line."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for label, value in rows:
        made.add_row(label, value)
    return made


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    print(json.dumps(document, indent=2))


def fail(text: str) -> typer.Exit:
    """Say on standard error what is wrong; to be raised."""
    print(f"open-channel: {text}", file=sys.stderr)
    return typer.Exit(1)


def warn(text: str) -> None:
    """Say on standard error what one should know."""
    print(f"open-channel: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def refusals() -> Generator[None]:
    """What the library or the system refuses becomes one line and exit code 1.

    Nobody reading what is printed any more (``| head``) is no error: the command ends, with 0.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # what is left of it, end_output() throws away
    except (ChannelError, OSError) as error:
        raise fail(str(error)) from None


_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def age(seconds: float) -> str:
    """A duration in the two largest units that matter: ``3 h 20 min``."""
    left = max(0, int(seconds))
    if left < 1:
        return f"{max(0.0, seconds):.1f} s"
    parts: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])
