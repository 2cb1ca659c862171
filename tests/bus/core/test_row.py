"""A row: what is appended on credit is counted, within what was given; what becomes of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from open_channel.bus.core import records as r
from open_channel.bus.core import row as module
from open_channel.bus.core.mixed import parse_mixed
from open_channel.bus.core.row import NAMED, Row
from open_channel.protocol.batches import OVERHEAD, SEAL

TOPIC, OTHER = b"news", b"weather"
ME = b"m" * 16


def test_a_row_has_its_messages_in_order_and_their_size():
    row = Row()
    assert row.add(TOPIC, b"one", 1, 0) == 3 + OVERHEAD
    assert row.add(TOPIC, b"three", 1, 0) == row.size == 8 + 2 * OVERHEAD
    assert (row.topic, row.flags, row.credit) == (TOPIC, 1, 0)
    found = r.parse(row.seal(7, ME))
    assert (found.flags, found.topic, found.first, found.sender) == (1, "news", 7, ME)
    assert found.messages() == [b"one", b"three"]
    assert (row.bodies, row.size, row.credit) == ([], 0, 0)


def test_messages_to_changing_topics_are_mixed():
    row = Row()
    assert not row.mix()  # there is nothing yet
    size = row.add(TOPIC, b"one", 1, 0) + len(TOPIC) + NAMED
    assert row.mix()
    assert row.size == size
    assert row.topic is not TOPIC
    for topic, body in ((OTHER, b"two"), (TOPIC, b"three")):
        assert row.mix()
        size += len(body) + OVERHEAD + len(topic) + NAMED
        assert row.add(topic, body, 1, 0) == row.size == size
    found = parse_mixed(row.seal(7, ME))
    assert (found.flags, found.first, found.last, found.sender) == (1, 7, 9, ME)
    assert [found.topics[index] for index in found.which] == ["news", "weather", "news"]
    assert found.messages() == [b"one", b"two", b"three"]
    assert (row.bodies, row.topics, row.size, row.credit) == ([], [], 0, 0)
    row.add(OTHER, b"four", 0, 0)  # and it begins anew
    assert r.parse(row.seal(10, ME)).topic == "weather"


def test_a_long_run_to_one_topic_is_not_mixed():
    row = Row()
    for _ in range(module._LONG - 1):
        row.add(TOPIC, b"", 0, 0)
    row.bodies.append(b"")
    assert not row.mix()
    assert row.topic is TOPIC
    del row.bodies[0]
    assert row.mix()


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


@given(st.lists(st.one_of(st.sampled_from(["add", "mix", "seal", "used"]), st.integers(0, 500))))
def test_all_that_is_appended_on_credit_is_counted_once(steps):
    row = Row()
    used = held = owed = count = 0
    for step in steps:
        named = len(TOPIC) + NAMED if row.topics else 0
        match step:
            case "add":
                held += 10 + OVERHEAD + named
                assert row.add(TOPIC, bytes(10), 0, 3000) == held
            case "mix":
                if row.mix() and not named:
                    held += (len(TOPIC) + NAMED) * len(row.bodies)
            case "seal" if row.bodies:
                record, count = row.seal(1, ME), len(row.bodies)
                assert not count
                assert record[0] == (r.MIXED if named else r.PUBLISH)
                held = 0
            case "used":
                used += row.used()
                assert used == owed
            case int(size) if size + OVERHEAD + named < row.credit:
                row.bodies.append(bytes(size))
                if named:
                    row.topics.append(TOPIC)
                row.credit -= size + OVERHEAD + named
                held += size + OVERHEAD + named
                owed += size + OVERHEAD + named
        assert row.size == held
    assert used + row.used() == owed
