"""A row: what is appended on credit is counted, and never more than was given."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from open_channel.bus.core.row import Row
from open_channel.protocol.batches import OVERHEAD, SEAL

TOPIC = b"news"


def test_a_row_has_its_messages_in_order_and_their_size():
    row = Row()
    assert row.add(TOPIC, b"one", 1, 0) == 3 + OVERHEAD
    assert row.add(TOPIC, b"three", 1, 0) == row.size == 8 + 2 * OVERHEAD
    assert (row.topic, row.flags, row.credit) == (TOPIC, 1, 0)
    assert row.take() == [b"one", b"three"]
    assert (row.bodies, row.size, row.credit) == ([], 0, 0)


def test_there_is_credit_up_to_a_whole_publication():
    row = Row()
    row.add(TOPIC, bytes(1000), 0, 1 << 30)
    assert row.size + row.credit == SEAL
    row.add(TOPIC, bytes(SEAL), 0, 1 << 30)
    assert row.credit == 0


def test_there_is_no_more_credit_than_room():
    row = Row()
    for room, credit in ((100, 100), (0, 0), (-5, 0)):
        row.add(TOPIC, b"", 0, room)
        assert row.credit == credit


@given(st.lists(st.one_of(st.sampled_from(["add", "take", "used"]), st.integers(0, 500))))
def test_all_that_is_appended_on_credit_is_counted_once(steps):
    row = Row()
    used = held = owed = 0
    for step in steps:
        match step:
            case "add":
                held += 10 + OVERHEAD
                assert row.add(TOPIC, bytes(10), 0, 3000) == held
            case "take":
                assert sum(len(body) + OVERHEAD for body in row.take()) == held
                held = 0
            case "used":
                used += row.used()
                assert used == owed
            case int(size) if size + OVERHEAD < row.credit:
                row.bodies.append(bytes(size))
                row.credit -= size + OVERHEAD
                held += size + OVERHEAD
                owed += size + OVERHEAD
        assert row.size == held
    assert used + row.used() == owed
