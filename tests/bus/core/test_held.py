"""What a member keeps of a publication."""

from __future__ import annotations

from open_channel.bus.core.held import Held


def test_it_knows_its_numbers_and_what_it_counts_as():
    held = Held(3, 5, b"record", 6, 1)
    assert (held.first, held.last, held.record, held.size, held.share) == (3, 5, b"record", 6, 1)
    assert not held.sent
    assert not held.over
    assert held.jobs == []
    assert held.on_acked == []


def test_who_waits_for_it_is_told_once():
    held = Held(1, 1, b"record", 6, 0)
    told: list[int] = []
    held.on_acked += [lambda: told.append(1), lambda: told.append(2)]
    held.tell_acked()
    held.tell_acked()
    assert told == [1, 2]
