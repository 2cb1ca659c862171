"""What a member keeps of a publication, and who waits for it."""

from __future__ import annotations

from functools import partial

from open_channel.bus.core.held import Awaited, Held


def test_it_knows_its_numbers_and_what_it_counts_as():
    held = Held(3, 5, b"record", 6, 1)
    assert (held.first, held.last, held.record, held.size, held.share) == (3, 5, b"record", 6, 1)
    assert not held.sent
    assert not held.over
    assert held.jobs == []


def test_who_waits_for_one_is_told_once():
    awaited = Awaited()
    told: list[int] = []
    awaited.one[3] = [partial(told.append, 1), partial(told.append, 2)]
    awaited.acknowledged(2)
    assert told == []
    awaited.acknowledged(3)
    awaited.acknowledged(3)
    assert told == [1, 2]


def test_who_waits_for_all_before_a_number_is_told_in_order():
    awaited = Awaited()
    told: list[int] = []
    awaited.all.extend([(3, partial(told.append, 1)), (3, partial(told.append, 2))])
    awaited.all.append((5, partial(told.append, 3)))
    awaited.reached(2)
    assert told == []
    awaited.reached(4)
    assert told == [1, 2]
    awaited.reached(5)
    assert told == [1, 2, 3]
    assert not awaited.all
