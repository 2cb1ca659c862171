"""The interface between a socket and who made it. Needed by type checkers and readers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from open_channel.channel.conversation import Peer
    from open_channel.errors import ChannelError

__all__ = ["ConversationOwner", "SocketOwner"]


class ConversationOwner(Protocol):
    """Who knows the other end."""

    @property
    def name(self) -> str:
        """The channel's name."""
        ...

    @property
    def peer(self) -> Peer | None:
        """The other end; None while there is none."""
        ...

    def shut(self, error: ChannelError) -> None:
        """Close at once; ``error`` is what every use raises from now on."""


class SocketOwner(ConversationOwner, Protocol):
    """The channel on the client's side, the listener service on the host's."""

    async def wait_connected(self) -> None:
        """See ``ChannelSocket``."""

    async def wait_closed(self) -> None:
        """Wait for what closing entails."""
