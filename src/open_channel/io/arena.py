"""Memory that this process shares: where large messages lie while others copy them.

On Linux it is a ``memfd``, sealed so that it cannot shrink under a reader (``memfd_create(2)``,
``fcntl(2)``), which the peers open as ``/proc/PID/fd/N`` (``proc(5)``: one of the same user can);
nothing has to be passed along a socket, and nothing is on a disk. Where that cannot be done,
messages travel through the sockets.

A memfd for each message would gain nothing: making one with 1 MiB in it took 691 us, because its
pages are new, and 1 MiB through a socket takes 219. So there is one, whose places are used again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakSet

from open_channel.io import fork
from open_channel.protocol.shared import STAMP, Offer, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Arena", "Foreign", "Slot"]

GiveBack: TypeAlias = "Callable[[tuple[int, int, int]], None]"

_GRAIN = 16 * 1024  # places begin at multiples of it
_BEFORE = 64  # bytes before a place, for its stamp: copying from a cache line's start is quicker
_LARGEST = 1 << 32  # bytes of a peer's memory that are mapped
_NUMBERS = 1 << 64


class Slot(Place):
    """A place whose bytes stay there as long as somebody has this; then it is given back."""

    __slots__ = ("__weakref__", "_give_back", "copied", "source", "view")

    def __init__(
        self,
        source: Arena | Foreign,
        view: memoryview,
        place: tuple[int, int, int, int],
        give_back: GiveBack,
    ) -> None:
        super().__init__(*place)
        self.source = source
        """What it is in."""
        self.view = view
        """The bytes."""
        self.copied: Slot | None = None
        """The same in our own memory, once it was needed for those who cannot read another's."""
        self._give_back = give_back

    def __del__(self) -> None:
        # In whatever thread, and in the midst of whatever: so it is only noted.
        self._give_back((self.at, self.length, self.stamp))


class Arena:
    """The memory of one opened channel; made when it is first needed. Any thread may use it."""

    def __init__(self, size: int) -> None:
        self._size = size // _GRAIN * _GRAIN
        self._given_back: deque[tuple[int, int, int]] = deque()
        self._lock = threading.Lock()
        self._memory: memoryview | None = None
        self._descriptor = -1
        self._first = self._stamp = 0
        self._slots: WeakSet[Slot] = WeakSet()
        self._stranded: list[Slot] = []
        self._free: list[tuple[int, int]] = []
        """(where, how much), in order, no two adjacent."""
        self._open = self._size > _GRAIN and sys.platform == "linux"

    def put(self, body: bytes | memoryview) -> Slot | None:
        """Copy bytes to a place of their own; None when there is no room."""
        if not self._open:
            return None
        with self._lock:
            memory = self._made()
            slot = self._take(memory, len(body)) if memory is not None else None
        if slot is not None:
            slot.view[:] = body
        return slot

    def offer(self) -> Offer | None:
        """What a peer needs in order to read; None when nothing is shared."""
        if not self._open:
            return None
        with self._lock:
            if self._made() is None:
                return None
            return Offer(0, self._descriptor, self._size, self._first)

    def _made(self) -> memoryview | None:
        if self._memory is None and self._open:
            self._make()
        return self._memory

    def _make(self) -> None:
        if sys.platform != "linux":
            return
        import mmap  # with the first large message: else nobody needs it

        try:
            with fork.guard:
                self._descriptor = os.memfd_create("open-channel", os.MFD_ALLOW_SEALING)
                fork.watch(self)
                os.ftruncate(self._descriptor, self._size)
                seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
                fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, seals)
                self._memory = memoryview(mmap.mmap(self._descriptor, self._size))
        except OSError:
            self._close()
            return
        # Nobody can have bytes that look like a stamp by chance, or know one beforehand.
        self._first = self._stamp = int.from_bytes(os.urandom(STAMP.size), "big")
        STAMP.pack_into(self._memory, 0, self._first)
        self._free = [(_GRAIN, self._size - _GRAIN)]

    def _take(self, memory: memoryview, length: int) -> Slot | None:
        while self._given_back:
            at, before, _ = self._given_back.popleft()
            self._give_back(memory, at, before)
        need = _grains(length)
        for number, (start, room) in enumerate(self._free):
            if room >= need:
                if room > need:
                    self._free[number] = start + need, room - need
                else:
                    del self._free[number]
                stamp = self._stamp = (self._stamp + 1) % _NUMBERS
                STAMP.pack_into(memory, start, stamp)
                at = start + _BEFORE
                place = self._first, at, length, stamp
                slot = Slot(self, memory[at : at + length], place, self._given_back.append)
                self._slots.add(slot)
                return slot
        return None

    def _give_back(self, memory: memoryview, at: int, length: int) -> None:
        start = at - _BEFORE
        STAMP.pack_into(memory, start, 0)  # before anything else is put there
        free: list[tuple[int, int]] = []
        for place, room in sorted([*self._free, (start, _grains(length))]):
            if free and sum(free[-1]) == place:
                free[-1] = free[-1][0], free[-1][1] + room
            else:
                free.append((place, room))
        self._free = free

    def strand(self, slots: Iterable[Slot]) -> None:
        """Leave these as they are: somebody may have them, who will not say when no longer."""
        if self._open:
            self._stranded += slots

    def close(self) -> None:
        """Share nothing more; what lies there can still be read by those who have opened it.

        In this process it is gone, whoever may still have a slot: a broker that is none any more
        keeps what it had, as long as somebody has the closed channel.
        """
        if self._open:
            with self._lock:
                self._close()

    def _close(self) -> None:
        self._open = False
        memory, self._memory = self._memory, None
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            fork.unwatch(self)
            os.close(descriptor)
        self._stranded.clear()
        if memory is not None:
            _unmap(memory, self._slots)

    def forked(self) -> None:
        """In a child: see ``io.fork``. Its lock may be held by a thread that is not here."""
        self._close()


def _unmap(memory: memoryview, slots: Iterable[Slot] = ()) -> None:
    """A mapping has a descriptor of its own, until nobody has a part of it."""
    import mmap

    mapping = memory.obj
    with contextlib.suppress(BufferError):  # somebody is reading or writing there at this moment
        for slot in list(slots):
            slot.view.release()
        memory.release()
        if isinstance(mapping, mmap.mmap):
            mapping.close()


def _grains(length: int) -> int:
    """How much a place takes, in bytes."""
    return -(-(length + _BEFORE) // _GRAIN) * _GRAIN


class Foreign:
    """Memory that another process shares, to be read."""

    def __init__(self, memory: memoryview, offer: Offer) -> None:
        self._memory = memory
        self._closed = False
        self._offer = offer
        self._slots: WeakSet[Slot] = WeakSet()
        fork.watch_weakly(self)

    def close(self) -> None:
        """It is gone from this process, whoever may have something there; again is harmless."""
        if not self._closed:
            self._closed = True
            _unmap(self._memory, self._slots)

    def forked(self) -> None:
        """In a child: see ``io.fork``."""
        self.close()

    def offer(self) -> Offer:
        """What others need in order to read it too."""
        return self._offer

    def hold(self, place: Place, view: memoryview, give_back: GiveBack) -> Slot:
        """Keep what ``at()`` has found, until nobody has it any more."""
        slot = Slot(self, view, (place.memory, place.at, place.length, place.stamp), give_back)
        self._slots.add(slot)
        return slot

    @classmethod
    def open(cls, offer: Offer) -> Foreign | None:
        """None when this process may not read it, or it is not what was offered."""
        if sys.platform != "linux" or not STAMP.size <= offer.size <= _LARGEST:
            return None
        import mmap

        # Whatever it is that is opened, this does not wait for it.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        with contextlib.suppress(OSError, ValueError), fork.guard:  # ValueError: a smaller file
            descriptor = os.open(f"/proc/{offer.pid}/fd/{offer.descriptor}", flags)
            try:
                # Or it could shrink while it is read, which would kill this process.
                if not fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
                    return None
                memory = mmap.mmap(descriptor, offer.size, prot=mmap.PROT_READ)
            finally:
                os.close(descriptor)
            if STAMP.unpack_from(memory)[0] == offer.stamp:
                return cls(memoryview(memory), offer)
        return None

    def at(self, place: Place) -> memoryview | None:
        """The bytes there; None when they cannot all be there."""
        end = place.at + place.length
        if place.at < _BEFORE or end > len(self._memory):
            return None
        return self._memory[place.at : end]

    def holds(self, place: Place) -> bool:
        """Whether what is there now is what was there when the peer told of it."""
        (now,) = STAMP.unpack_from(self._memory, place.at - _BEFORE)
        return bool(now == place.stamp)
