"""Chance, and what is made with it: odd numbers, odd values, bytes that are almost right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

import msgspec

__all__ = ["ODD_NUMBERS", "Chance"]

_T = TypeVar("_T")

ODD_NUMBERS = (
    *(0, 1, 2, 3, 4, 7, 8, 15, 16, 19, 20, 127, 128, 255, 256, 1023, 1024, 1025, 4096),
    *(2**16 - 1, 2**16, 2**18, 2**18 + 1, 2**26, 2**31 - 1, 2**31, 2**32 - 1, 2**32),
    *(2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1),
)
_NEGATIVE = (-1, -2, -(2**31), -(2**63))
_TEXTS = ("", ".", "a", "*", ">", "a.*", "a.>", ">.a", "a..b", "a b", "\0", "é", "x" * 300)


class Chance(Random):
    """A seeded source of all of it."""

    def pick(self, things: Sequence[_T]) -> _T:
        return things[int(self.random() * len(things))]

    def one_in(self, count: int) -> bool:
        return self.random() * count < 1

    def number(self, bits: int = 64) -> int:
        """A number of so many bits: at a border, or small, or any."""
        kind = self.random()
        if kind < 0.4:
            return self.pick(ODD_NUMBERS) & ((1 << bits) - 1)
        if kind < 0.8:
            return int(self.random() * 12)
        return self.getrandbits(bits)

    def blob(self, most: int = 40) -> bytes:
        return self.randbytes(int(self.random() * most))

    def odd(self, depth: int = 2) -> Any:
        """A value that MessagePack can carry, of no type that is expected."""
        kind = int(self.random() * (9 if depth else 7))
        if kind == 0:
            return self.number()
        if kind == 1:
            return self.pick(_NEGATIVE)
        if kind == 2:
            return self.pick(_TEXTS)
        if kind == 3:
            return self.blob()
        if kind == 4:
            return None
        if kind == 5:
            return self.one_in(2)
        if kind == 6:
            return self.random()
        count = int(self.random() * 4)
        if kind == 7:
            return [self.odd(depth - 1) for _ in range(count)]
        return {self.pick(_TEXTS): self.odd(depth - 1) for _ in range(count)}

    def spoil(self, fields: list[Any]) -> None:
        """Make one field of a record another than it should be."""
        kind = self.random()
        place = int(self.random() * len(fields))
        if kind < 0.5:
            fields[place] = self.odd()
        elif kind < 0.7 and isinstance(fields[place], int):
            fields[place] = self.number()
        elif kind < 0.8:
            del fields[place]
        elif kind < 0.9:
            fields.append(self.odd())
        elif isinstance(fields[place], list) and fields[place]:
            self.spoil(fields[place])
        else:
            fields[place] = self.odd()

    def mutate(self, data: bytes) -> bytes:
        """The same bytes, but for some."""
        out = bytearray(data)
        for _ in range(1 + int(self.random() * 3)):
            self.pick(_MUTATIONS)(self, out)
        return bytes(out)

    def tagged(self, tag: int, *fields: Any) -> bytes:
        """MessagePack of a tagged array; now and then with a field that is none."""
        record = [tag, *fields]
        if self.one_in(8):
            self.spoil(record)
        return msgspec.msgpack.encode(record)


def _place(chance: Chance, out: bytearray) -> int:
    # What matters is mostly at the beginning.
    size = min(len(out), 64) if chance.one_in(2) else len(out)
    return int(chance.random() * size)


def _flip(chance: Chance, out: bytearray) -> None:
    if out:
        out[_place(chance, out)] ^= 1 << int(chance.random() * 8)


def _set(chance: Chance, out: bytearray) -> None:
    if out:
        out[_place(chance, out)] = chance.pick((0, 1, 5, 0x7F, 0x80, 0xC0, 0xDD, 0xFF))


def _cut(chance: Chance, out: bytearray) -> None:
    del out[_place(chance, out) :]


def _remove(chance: Chance, out: bytearray) -> None:
    place = _place(chance, out)
    del out[place : place + 1 + int(chance.random() * 8)]


def _insert(chance: Chance, out: bytearray) -> None:
    place = _place(chance, out)
    out[place:place] = chance.blob(12)


def _append(chance: Chance, out: bytearray) -> None:
    out += chance.blob(24)


def _number(chance: Chance, out: bytearray) -> None:
    size = chance.pick((1, 2, 4, 8))
    place = _place(chance, out) & ~(size - 1)
    if place + size <= len(out):
        out[place : place + size] = chance.number(8 * size).to_bytes(size, "little")


def _nest(_: Chance, out: bytearray) -> None:
    out += b"\x91" * 5000


def _repeat(chance: Chance, out: bytearray) -> None:
    place = _place(chance, out)
    out += out[place : place + 40]


_MUTATIONS: tuple[Callable[[Chance, bytearray], None], ...] = (
    _flip,
    _set,
    _cut,
    _remove,
    _insert,
    _append,
    _number,
    _number,
    _repeat,
    _nest,
)
