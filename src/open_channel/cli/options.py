"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from open_channel.io.directory import Resolved, resolve

__all__ = ["Directory", "Json", "Name", "where"]

Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        "-d",
        metavar="DIR",
        help="Look here instead of where the library looks by itself.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Name = Annotated[str, typer.Argument(help="The channel's name.", show_default=False)]


def where(directory: Path | None) -> Resolved:
    """The directory to look into, and why it is this one."""
    return resolve() if directory is None else Resolved(resolve(directory).path, "--directory")
