"""Shared memory of one session: what this side offers, what it reads, and what is still in use.

Large messages lie in the memory of whoever wrote them, and the other side is told where. It takes
an offer once on each connection, and copies from there before it says that the message has
come. A host of the bus does not copy: it holds the place, and tells those to whom it relays the
message where it lies. The member leaves the bytes there until the host does not hold them.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakSet, ref

from open_channel.errors import RemoteProtocolError
from open_channel.io.arena import Arena, Foreign, Slot
from open_channel.io.credentials import credentials
from open_channel.protocol.batches import LARGE, OVERHEAD, Large
from open_channel.protocol.frames import Frame, Kind, encode
from open_channel.protocol.shared import (
    STAMP,
    Offer,
    decode_holding,
    decode_stamp,
    decode_told,
    encode_holding,
)

if TYPE_CHECKING:
    from open_channel.io.wire import Wire
    from open_channel.protocol.batches import Message
    from open_channel.protocol.outbox import Batch
    from open_channel.protocol.session import Session
    from open_channel.protocol.shared import Place

__all__ = ["Sharing"]

_MOST = 64  # memories that one side has open: each is a descriptor, of which it may have 1,024
_KEPT = 4 * 1024 * 1024  # bytes: as much as may be on its way to a subscriber
_NEVER = 1 << 64  # beyond the number of any message
_OFFER, _TAKEN = int(Kind.OFFER), int(Kind.TAKEN)
_WITHDRAWN, _HOLDING = int(Kind.WITHDRAWN), int(Kind.HOLDING)


@cache
def _keep_what_is_freed() -> None:
    """Let this process use again the memory of large messages that nobody has any more.

    Beyond twice the largest block that it ever mapped by itself, glibc returns freed memory to the
    system (``mallopt(3)``, M_MMAP_THRESHOLD), and whoever copies a message there next gets new
    pages: 122 faults for each 1 MiB, and 710 us of a subscriber's CPU instead of 240. To have such
    a block for a moment costs nothing, since nobody touches it.
    """
    bytes(_KEPT)


class _Offered(ref["Arena | Foreign"]):
    """A memory that was offered; whoever offered it hears when it is gone."""

    __slots__ = ("stamp",)
    stamp: int


class Sharing:
    """One side's part; ``held`` is for a host to know what memories it has opened."""

    __slots__ = (
        "_arena",
        "_bad",
        "_foreign",
        "_held",
        "_holds",
        "_hosting",
        "_lends",
        "_lent",
        "_offered",
        "_opened",
        "_session",
        "_wire",
        "news",
        "taken",
    )

    def __init__(
        self, session: Session, arena: Arena, held: WeakSet[Foreign] | None = None
    ) -> None:
        self._session = session
        self._arena = arena
        self._opened = held
        self._wire: Wire | None = None
        self._holds = session.inbox.large and held is not None
        self._lends = session.inbox.large and held is None
        self._offered: dict[int, _Offered] = {}
        """{stamp: our memory, or another's of which we tell}, on this connection."""
        self.taken: set[int] = set()
        """Which of them the other side can read."""
        self._foreign: dict[int, Foreign] = {}
        """{stamp: what it offered, and we can read}, on this connection."""
        self._bad: set[int] = set()
        """Of what it offered, what was not as it told; it sends that by another way."""
        self._held: set[int] = set()
        """The stamps of the other side's places that are in use here."""
        self._lent: list[tuple[int, Slot]] = []
        """(number of the message, where it lies): what the host may hold."""
        self._hosting = 0
        """Which host."""
        self.news: deque[tuple[int, int, int] | ref[Arena | Foreign]] = deque()
        """Places that are not in use any more, and memories that are gone: see ``tell()``. Any
        thread may append."""

    def attach(self, wire: Wire, *, resumed: bool) -> None:
        """The session has a connection."""
        self._wire = wire
        session = self._session
        session.share = self.share
        if not resumed:
            self._bad.clear()
            if session.hosting != self._hosting:
                self._lent.clear()  # whoever held them is no host any more
                self._hosting = session.hosting
            # Of a session that this host gave up it may hold something, and would not say so.
            self._lent = [(_NEVER, slot) for _, slot in self._lent]
        elif self._holds:
            self.news.append((0, 0, 0))  # what was told last may have been lost

    def detach(self) -> None:
        """It has none."""
        self._wire = None
        self._offered.clear()
        self.taken.clear()
        self._foreign.clear()

    def over(self) -> None:
        """The session is over. What is lent stays where it is as long as our memory is there."""
        self.detach()
        self._session.share = None
        self._arena.strand(slot for _, slot in self._lent)

    # --- what we tell ----------------------------------------------------------------------

    def share(self, batch: Batch) -> Place | None:
        """See ``Session.share``."""
        slot = batch.place
        if slot is None:
            if not self._reads(self._arena):
                return None
            slot = batch.place = self._arena.put(batch.payload[-1])
            if slot is not None and self._lends:
                self._lent.append((self._session.outbox.number(batch), slot))
            return slot
        assert isinstance(slot, Slot)
        reads = self._reads(slot.source)
        if reads:
            return slot
        if reads is None or not self._reads(self._arena):
            return None
        # It cannot read the memory of that process: it is in a container of its own, say.
        if slot.copied is None:
            slot.copied = self._arena.put(slot.view)
        if slot.copied is not None:
            batch.place, batch.payload[-1] = slot.copied, slot.copied.view
        return slot.copied

    def _reads(self, memory: Arena | Foreign) -> bool | None:
        """Whether the other side can read a memory; None as long as it cannot have said."""
        offer = memory.offer()
        if offer is None:
            return None
        if offer.stamp in self.taken:
            return True
        if offer.stamp in self._offered:
            return False
        offered = self._offered[offer.stamp] = _Offered(memory, self.news.append)
        offered.stamp = offer.stamp
        assert self._wire is not None
        self._wire.write([encode(_OFFER, payload=offer.encode())])
        return None

    def tell(self, *, all_of_it: bool = False) -> list[bytes]:
        """Frames that say what has changed; they may leave before anything else.

        When little was given back they wait for more: to say what is held costs as much as that is.
        """
        news, held = self.news, self._held
        if 4 * len(news) < len(held) and not all_of_it:
            return []
        frames: list[bytes] = []
        given_back = False
        while news:
            one = news.popleft()
            if isinstance(one, tuple):
                held.discard(one[2])
                given_back = True
            elif isinstance(one, _Offered) and self._offered.get(one.stamp) is one:
                del self._offered[one.stamp]
                self.taken.discard(one.stamp)
                frames.append(encode(_WITHDRAWN, payload=STAMP.pack(one.stamp)))
        if given_back:
            received = self._session.inbox.received
            frames.append(encode(_HOLDING, payload=encode_holding(received, held)))
        return frames

    # --- what we are told ------------------------------------------------------------------

    def received(self, frame: Frame) -> None:
        """A frame about shared memory; raises RemoteProtocolError when it makes no sense."""
        kind, payload = frame.kind, frame.payload
        if kind == _OFFER:
            self._take(Offer.decode(payload))
        elif kind == _TAKEN:
            if (stamp := decode_stamp(payload)) in self._offered:
                self.taken.add(stamp)
        elif kind == _WITHDRAWN:
            self._foreign.pop(decode_stamp(payload), None)
        elif not self._lends:
            raise RemoteProtocolError(reason="it holds what was not lent")
        else:
            number, held = decode_holding(payload)
            self._lent = [
                (last, slot) for last, slot in self._lent if last > number or slot.stamp in held
            ]

    def _take(self, offer: Offer) -> None:
        wire = self._wire
        if wire is None or offer.stamp in self._foreign:
            raise RemoteProtocolError(reason="a second offer of shared memory")
        if offer.stamp in self._bad or len(self._foreign) >= _MOST:
            return
        if not offer.pid:
            try:
                offer.pid = credentials(wire.sock).pid
            except OSError:  # the connection is gone
                return
        elif self._holds:
            raise RemoteProtocolError(reason="an offer of memory that is another's")
        foreign = Foreign.open(offer)
        if foreign is not None:
            self._foreign[offer.stamp] = foreign
            if self._opened is not None:
                self._opened.add(foreign)
            if not self._holds:
                _keep_what_is_freed()
            wire.write([encode(_TAKEN, payload=STAMP.pack(offer.stamp))])

    def read(self, frame: Frame) -> Message | None:
        """The message that lies in shared memory.

        None, and the connection ends, when it does not lie there any more: the other side has
        given this session up since, or the writer has changed it.
        """
        wire = self._wire
        place, head = decode_told(frame.payload)
        foreign = self._foreign.get(place.memory)
        if wire is None or foreign is None or frame.number != 1:
            raise RemoteProtocolError(reason="a message in shared memory that was not taken")
        if not LARGE < place.length <= wire.decoder.limit - OVERHEAD - len(head):
            raise RemoteProtocolError(reason=f"{place.length} bytes in shared memory")
        source = foreign.at(place)
        if source is None:
            raise RemoteProtocolError(reason=f"place {place.at}, beyond the shared memory")
        message: Message
        if not head or not self._session.inbox.large:
            message = b"".join((head, source))
        elif self._holds:
            self._held.add(place.stamp)
            message = Large(head, source, place=foreign.hold(place, source, self.news.append))
        else:
            message = Large(head, bytes(source))
        if foreign.holds(place):
            return message
        self._bad.add(place.memory)
        wire.abort("what it told of is not there any more")
        return None
