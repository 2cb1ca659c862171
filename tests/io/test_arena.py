"""Memory that processes share: what is put there, who can read it, and for how long."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_channel.io.arena import Arena, Foreign
from open_channel.protocol.shared import Offer, Place
from tests.io.test_fork import in_child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from open_channel.io.arena import Slot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no memfd")

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def arena() -> Iterator[Arena]:
    one = Arena(MIB)
    yield one
    one.close()


def descriptors() -> set[str]:
    """Of shared memory."""
    found: set[str] = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            if "memfd:" in os.readlink(f"/proc/self/fd/{name}"):
                found.add(name)
    return found


def offer_of(arena: Arena) -> Offer:
    offer = arena.offer()
    assert offer is not None
    assert not offer.pid
    return Offer(os.getpid(), offer.descriptor, offer.size, offer.stamp)


def opened(arena: Arena) -> Foreign:
    foreign = Foreign.open(offer_of(arena))
    assert foreign is not None
    return foreign


def at(foreign: Foreign, place: Place) -> bytes | None:
    there = foreign.at(place)
    return None if there is None else bytes(there)


def put(arena: Arena, body: bytes) -> Slot:
    slot = arena.put(body)
    assert slot is not None
    return slot


def test_what_is_put_there_can_be_read_by_another_process(arena: Arena) -> None:
    body = os.urandom(200 * KIB)
    slot, offer = put(arena, body), offer_of(arena)

    def child() -> bool:
        foreign = Foreign.open(offer)
        assert foreign is not None
        there = foreign.at(slot)
        return there is not None and there.readonly and bytes(there) == body and foreign.holds(slot)

    assert in_child(child)
    assert bytes(slot.view) == body


def test_nothing_is_made_before_it_is_needed() -> None:
    before = descriptors()
    arena = Arena(MIB)
    assert descriptors() == before
    arena.offer()
    assert len(descriptors() - before) == 2  # a mapping has one of its own
    arena.close()
    arena.close()
    assert descriptors() == before


def test_a_place_is_used_again_when_nobody_has_it(arena: Arena) -> None:
    slot = put(arena, b"x" * 200 * KIB)
    foreign, was = opened(arena), Place(slot.memory, slot.at, slot.length, slot.stamp)
    view = slot.view[:10]
    del slot
    assert foreign.holds(was)  # nothing else was put there yet
    again = put(arena, b"y" * 100 * KIB)
    assert again.at == was.at
    assert not foreign.holds(was)
    assert foreign.holds(again)
    assert bytes(view) == b"y" * 10


def test_no_room_is_no_error(arena: Arena) -> None:
    assert arena.put(bytes(2 * MIB)) is None
    slots = [put(arena, bytes([number]) * 200 * KIB) for number in range(4)]
    assert arena.put(bytes(200 * KIB)) is None
    for number, slot in enumerate(slots):
        assert bytes(slot.view) == bytes([number]) * 200 * KIB
    del slots, slot
    assert arena.put(bytes(900 * KIB)) is not None


@given(st.lists(st.tuples(st.integers(1, 300 * KIB), st.integers(0, 5)), max_size=40))
def test_places_never_overlap_and_none_is_lost(steps: list[tuple[int, int]]) -> None:
    arena = Arena(MIB)
    held: list[tuple[Slot, bytes]] = []
    for number, (length, drop) in enumerate(steps):
        body = bytes([number]) * length
        if (slot := arena.put(body)) is not None:
            held.append((slot, body))
        del slot
        for _ in range(min(drop, len(held))):
            held.pop((number * 7) % len(held))
        for slot, there in held:
            assert bytes(slot.view) == there
            del slot, there
    held.clear()
    assert arena.put(bytes(MIB - 20 * KIB)) is not None
    arena.close()


def test_what_was_put_there_outlives_the_arena_in_other_processes() -> None:
    before = descriptors()
    arena = Arena(MIB)
    slot = put(arena, b"x" * 200 * KIB)
    foreign = opened(arena)
    arena.close()
    assert arena.put(b"more") is None
    assert arena.offer() is None
    assert at(foreign, Place(slot.memory, slot.at, 3, 0)) == b"xxx"
    assert foreign.holds(slot)
    del foreign
    assert descriptors() == before  # though there is a slot still


@pytest.mark.parametrize("size", [0, KIB])
def test_none_is_shared(size: int) -> None:
    arena = Arena(size)
    assert arena.put(b"body") is None
    assert arena.offer() is None


def test_a_system_that_refuses_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "memfd_create", refuse)
    arena = Arena(MIB)
    assert arena.put(b"body") is None
    assert arena.offer() is None


def test_a_child_shares_nothing_of_its_parents(arena: Arena) -> None:
    before = descriptors()
    foreign = opened(arena)
    assert len(descriptors() - before) == 3

    def child() -> bool:
        shares = arena.put(b"mine") is not None or arena.offer() is not None
        return not shares and descriptors() <= before

    with arena._lock:  # as another thread may have it at the fork
        assert in_child(child)
    slot = put(arena, b"still")
    assert at(foreign, slot) == b"still"
    assert in_child(lambda: arena.put(b"mine") is None)
    assert bytes(slot.view) == b"still"


def test_memory_is_free_when_nobody_has_it() -> None:
    """By counting references, without the cyclic collector."""
    gc.disable()
    try:
        arena = Arena(MIB)
        put(arena, b"x")
        foreign = opened(arena)
        mapped = f" {os.stat(f'/proc/self/fd/{offer_of(arena).descriptor}').st_ino} "
        maps = Path("/proc/self/maps")
        assert maps.read_text().count(mapped) == 2
        arena.close()
        del arena, foreign
        assert mapped not in maps.read_text()
    finally:
        gc.enable()


def test_what_is_held_of_anothers_memory_is_gone_when_that_is_closed(arena: Arena) -> None:
    before, given_back = descriptors(), list[tuple[int, int, int]]()
    foreign = opened(arena)
    there = put(arena, b"there")
    view = foreign.at(there)
    assert view is not None
    slot = foreign.hold(there, view, given_back.append)
    assert bytes(slot.view) == b"there"
    assert len(descriptors() - before) == 3
    for _ in range(2):
        foreign.close()
        assert len(descriptors() - before) == 2  # the arena's own
    other = opened(arena)
    assert in_child(lambda: descriptors() <= before)  # a fork stumbles over nothing
    del other
    with pytest.raises(ValueError, match="released"):
        bytes(slot.view)
    assert not given_back
    del slot
    assert given_back == [(there.at, there.length, there.stamp)]


# --- what is offered and is not what it should be -------------------------------------------------


def memfd(size: int, seals: int = 0) -> int:
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def refused(offer: Offer) -> bool:
    before = descriptors()
    found = Foreign.open(offer) is None
    assert descriptors() == before
    return found


def test_memory_that_could_shrink_under_its_reader_is_refused() -> None:
    for seals, taken in (0, False), (fcntl.F_SEAL_SHRINK, True):
        descriptor = memfd(4096, seals)
        try:
            assert refused(Offer(os.getpid(), descriptor, 4096, 0)) is not taken
        finally:
            os.close(descriptor)


def test_memory_that_is_not_what_was_offered_is_refused(arena: Arena) -> None:
    offer = offer_of(arena)
    pid, descriptor, size, stamp = os.getpid(), offer.descriptor, offer.size, offer.stamp
    assert refused(Offer(pid, descriptor, size, stamp ^ 1))
    for other in (0, 2 * MIB, 2**64 - 1):
        assert refused(Offer(pid, descriptor, other, stamp))
    assert refused(Offer(pid, 2**32 - 1, size, stamp))
    for other in 0, 2**30, 2**32 - 1:
        assert refused(Offer(other, descriptor, size, stamp))
    assert not refused(offer)


def test_what_is_no_memory_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        file.write(bytes(4096))
        file.flush()
        for descriptor in file.fileno(), reading:
            assert refused(Offer(os.getpid(), descriptor, 4096, 0))
    os.close(reading)


def test_a_place_that_is_not_all_there() -> None:
    descriptor = memfd(MIB, fcntl.F_SEAL_SHRINK)
    foreign = Foreign.open(Offer(os.getpid(), descriptor, MIB, 0))
    os.close(descriptor)
    assert foreign is not None
    for place, length in (0, 8), (63, 8), (64, MIB), (MIB - 7, 8), (2**64 - 1, 1), (64, 2**64 - 1):
        assert at(foreign, Place(0, place, length, 0)) is None
    for place, length in (64, 8), (64, MIB - 64), (MIB - 8, 8):
        assert at(foreign, Place(0, place, length, 0)) == bytes(length)
