"""What a peer is: how it is started, its roles, and what the pages say of its set-up."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from harness import Crew

Kind: TypeAlias = Literal["ours", "brokered", "direct", "floor"]
Role: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the other processes find each other, and the process in the middle, if there is one."""

    address: str
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to send messages from process to process.

    Each role is a function that a process of its own runs. All are called with ``address`` and
    ``options``, and besides: ``receive`` with index, count, size; ``send`` with receivers, count,
    size; ``request`` with count, size, fresh; ``respond`` with nothing. None: it has no such thing.
    """

    key: str
    name: str
    kind: Kind
    setup: str
    """How it is set up, for the page."""
    start: Callable[[Crew, str], Place]
    """Starts what is in the middle; is given the kind of event loop."""
    receive: Role | None = None
    send: Role | None = None
    respond: Role | None = None
    request: Role | None = None
    crowd: Role | None = None
    """Holds ``members`` idle connections with ``subscriptions`` each."""
    modules: tuple[str, ...] = ()
    program: str = ""
    loop: str = "asyncio"
    options: Mapping[str, Any] = field(default_factory=dict)
    topics: bool = False
    """Whether ``send`` and ``receive`` know ``topics``: so many, in turn."""
    receivers: int = 1 << 16
    """More than so many it cannot serve."""
    patterns: tuple[str, ...] = ()
    """Only these; empty: all for which it has roles."""

    def absent(self) -> str:
        """What of it is not installed; empty when everything is."""
        modules = [name for name in self.modules if importlib.util.find_spec(name) is None]
        programs = [self.program] if self.program and shutil.which(self.program) is None else []
        return ", ".join(modules + programs)


def nothing_between(crew: Crew, _loop: str) -> Place:
    """The start of a peer whose processes are connected directly: a path to make names from."""
    return Place(str(crew.directory / "end"))
