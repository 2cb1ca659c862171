"""Who joins and leaves, for threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_channel.bus.members import Watch
from open_channel.errors import WaitTimeout
from open_channel.live import Live
from open_channel.sync import portal
from open_channel.sync.bell import Bell

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from open_channel.bus.members import MemberChange
    from open_channel.sync.bus import Bus

__all__ = ["MemberChanges"]


class MemberChanges(Live):
    """An iterator over the members that join and leave; made by ``channel.watch_members()``.

    It counts from when it is made until it is closed or forgotten, or the channel is closed.
    Several threads may use it; each change goes to one of them. In a forked child it raises
    ChannelForked.
    """

    def __init__(self, bus: Bus) -> None:
        self._bell = Bell()
        self._watch = Watch(bus.client, self._bell.ring)
        bus.call(self._watch.begin)

    def __repr__(self) -> str:
        return f"<sync {self._watch!r}>"

    def _following(self, timeout: float | None) -> MemberChange | None:
        """The next change; None at the end."""
        found = self._bell.wait_for(self._watch.look, portal.bound(timeout))
        if found is None:
            what = f"a change of the members of {self._watch.client.name!r}"
            raise WaitTimeout(what=what, timeout=timeout)
        return found[0]

    def get(self, timeout: float | None = None) -> MemberChange:
        """The next change; ``timeout`` is in seconds, None waits for ever.

        Raises WaitTimeout when it passes first, and at the end what closed the channel, or
        ChannelClosed when this was closed.
        """
        change = self._following(timeout)
        if change is None:
            assert self._watch.error is not None
            raise self._watch.error.again()
        return change

    def __iter__(self) -> Self:
        """Iterate until this or the channel is closed."""
        return self

    def __next__(self) -> MemberChange:
        """The next change; see ``get()``."""
        change = self._following(None)
        if change is None:
            raise StopIteration
        return change

    def close(self) -> None:
        """Watch no more; again is harmless. An iteration ends with what has come before."""
        self._watch.close()

    def __enter__(self) -> Self:
        """Nothing: it watches already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """Watch no more, when making it did not fail."""
        if hasattr(self, "_watch"):
            self._watch.forget()
