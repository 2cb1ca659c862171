"""Memory that a hostile peer shares: its offers, and what it says lies there."""

from __future__ import annotations

import fcntl
import functools
import os

from open_channel.bus.core import records as r
from open_channel.protocol.batches import LARGE
from open_channel.protocol.frames import SHARED, Kind
from open_channel.protocol.shared import STAMP, Offer, Place
from tests.fuzz.chance import Chance
from tests.fuzz.speech import Speaker, frame

__all__ = ["offer", "said", "told"]

_NUMBER = 200  # of the descriptor: the same in each run, so that a case can be played again
_SIZE = 1 << 20
_STAMP = 7
_FIRST = 64  # where the first place is


@functools.cache
def _make() -> None:
    made = os.memfd_create("hostile", os.MFD_ALLOW_SEALING)
    os.ftruncate(made, _SIZE)
    os.pwrite(made, STAMP.pack(_STAMP), 0)
    fcntl.fcntl(made, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    os.dup2(made, _NUMBER, inheritable=False)
    os.close(made)


def offer(chance: Chance) -> bytes:
    """A frame that offers this memory, mostly."""
    _make()
    fields = Offer(0, _NUMBER, _SIZE, _STAMP)
    if chance.one_in(6):
        setattr(fields, chance.pick(("pid", "descriptor", "size", "stamp")), chance.number(32))
    payload = fields.encode()
    return frame(Kind.OFFER, payload=payload[: chance.number(5)] if chance.one_in(20) else payload)


def told(chance: Chance, speaker: Speaker) -> bytes:
    """A frame that tells of a publication whose body lies there, or not quite."""
    length = chance.pick((LARGE + 1, LARGE + 1, LARGE * 2, LARGE, _SIZE - _FIRST))
    flags = chance.pick((0, 0, 1, 4, 16))
    topic = chance.pick(("news", "jobs", "held", "price"))
    record = speaker.publication(r.PUBLISH, flags, topic, r.NOBODY, [bytes(length)])
    head = record[: len(record) - length]
    if chance.one_in(12):
        head = chance.mutate(head)
    memory, at, stamp = _STAMP, _FIRST, _STAMP
    if chance.one_in(20):
        memory = chance.number()
    if chance.one_in(8):
        at = chance.number()
    if chance.one_in(8):
        stamp = chance.number()
    if chance.one_in(12):
        length = chance.number()
    return frame(
        Kind.MESSAGES, 1, payload=Place(memory, at, length, stamp).told(head), flags=SHARED
    )


def said(chance: Chance) -> bytes:
    """A frame about memory that was offered, which a host never needs to hear, or should not."""
    stamp = STAMP.pack(_STAMP if chance.one_in(2) else chance.number())
    kind = chance.pick((Kind.TAKEN, Kind.TAKEN, Kind.WITHDRAWN, Kind.HOLDING))
    return frame(kind, payload=stamp * (1 + (kind is Kind.HOLDING)))
