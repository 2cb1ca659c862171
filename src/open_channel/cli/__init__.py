"""The ``open-channel`` command: a demonstration, and a look at the channels of this machine.

It needs the extra ``open-channel[cli]``; the library itself never imports what that installs.
"""

from __future__ import annotations

import signal
import sys

from open_channel.cli.streams import (
    end_output,
    escape_what_cannot_be_encoded,
    replace_closed,
)

__all__ = ["main"]


def main() -> None:
    """Run the command line; without its extra, say what to install and exit with 2."""
    replace_closed()
    escape_what_cannot_be_encoded()
    try:
        from open_channel.cli.app import app
    except KeyboardInterrupt:  # what is run has its own way to end by it; see ``cli.output``
        raise SystemExit(128 + signal.SIGINT) from None
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print(
            f"open-channel: the command needs {error.name}: pip install 'open-channel[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    try:
        app(prog_name="open-channel")
    finally:
        end_output()
