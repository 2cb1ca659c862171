"""Mixed publications: there and back, in parts, and refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from open_channel.bus.core import records as r
from open_channel.bus.core.mixed import (
    MIXED_HEADER,
    Mixed,
    by_value,
    count_topics,
    encode_mixed,
    parse_mixed,
    singles,
)
from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import BATCH_LIMIT, Large

ME = b"m" * 16
TOPICS = ("a", "a.x", "b", "é")
LISTS = st.lists(st.tuples(st.sampled_from(TOPICS), st.binary(max_size=20)), min_size=1)


def encode(*messages: tuple[str, bytes], flags: int = 0, first: int = 1) -> bytes:
    topics = [topic.encode() for topic, _ in messages]
    return encode_mixed(flags, topics, first, ME, [body for _, body in messages])


def each(mixed: Mixed) -> list[tuple[str, bytes]]:
    topics = [mixed.topics[index] for index in mixed.which]
    return list(zip(topics, mixed.messages(), strict=True))


@given(LISTS, st.integers(1, 1 << 60), st.sampled_from((0, 1, 2, 3)))
def test_there_and_back(messages: list[tuple[str, bytes]], first: int, flags: int):
    record = encode(*messages, flags=flags, first=first)
    found = parse_mixed(record)
    assert each(found) == messages
    assert (found.first, found.last) == (first, first + len(messages) - 1)
    assert (found.flags, found.sender, found.total) == (flags, ME, len(messages))
    assert (found.record, found.to) == (record, r.NOBODY)
    assert [found.topic_of(first + n) for n in range(len(messages))] == [t for t, _ in messages]
    assert parse_mixed(r.mark_resent(record)).flags == flags | r.RESENT
    assert each(parse_mixed(Large(memoryview(record)))) == messages


@given(LISTS, st.sets(st.sampled_from(TOPICS)))
@example([("a", b"1"), ("b", b"2"), ("a.x", b"3")], {"a", "b"})
def test_a_part_has_what_is_wanted_and_all_the_numbers(
    messages: list[tuple[str, bytes]], wanted: set[str]
):
    mixed = parse_mixed(encode(*messages, first=7))
    indices = [index for index, topic in enumerate(mixed.topics) if topic in wanted]
    if not indices:
        return
    part = mixed.only(indices)
    found = parse_mixed(part.record)
    expected = [(topic, body) for topic, body in messages if topic in wanted]
    assert each(part) == each(found) == expected
    assert (found.first, found.last) == (part.first, part.last) == (7, 6 + len(messages))
    assert (part is mixed) == (len(expected) == len(messages))
    assert each(mixed.only([0])) == [one for one in messages if one[0] == mixed.topics[0]]


@given(LISTS)
def test_it_is_shared_out_among_those_who_want_it(messages: list[tuple[str, bytes]]):
    mixed = parse_mixed(encode(*messages))
    who = [(topic, "all") if topic.startswith("a") else ("all",) for topic in mixed.topics]
    shares = {value: (topics, bodies) for value, topics, bodies in mixed.shares(by_value(who))}
    assert list(zip(*shares.pop("all"), strict=True)) == messages
    assert shares.keys() == {topic for topic in mixed.topics if topic.startswith("a")}
    for name, (topics, bodies) in shares.items():
        assert set(topics) == {name}
        assert bodies == [body for topic, body in messages if topic == name]


def test_its_topics_are_counted():
    record = encode(("a", b""), ("b", b""), ("a", b""))
    assert count_topics(record) == {"a": 2, "b": 1}


def test_the_single_messages_that_a_pattern_fits():
    mixed = parse_mixed(encode(("a.x", b"1"), ("b", b"2"), ("a.y", b"3"), first=4))
    assert list(singles(mixed, "a.*")) == [(4, "a.x", b"1"), (6, "a.y", b"3")]
    record = r.encode_publication(r.PUBLISH, 0, b"b", 8, ME, r.NOBODY, [b"1", b"2"])
    assert list(singles(r.parse(record), "b")) == [(8, "b", b"1"), (9, "b", b"2")]


def test_where_the_values_are():
    assert by_value("aaa") == {"a": range(3)}
    assert by_value("abca") == {"a": [0, 3], "b": [1], "c": [2]}


# --- refused --------------------------------------------------------------------------------------

GOOD = encode(("a", b"one"), ("b", b"two"))


def spoiled(
    flags: int = 0,
    zeros: int = 0,
    total: int = 2,
    first: int = 1,
    span: int = 2,
    size: int = 3,
    rest: bytes = GOOD[MIXED_HEADER.size :],
) -> bytes:
    return MIXED_HEADER.pack(r.MIXED, flags, zeros, total, first, ME, span, size) + rest


def test_what_is_spoiled_below_is_in_order_else():
    assert spoiled() == GOOD


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (GOOD[: MIXED_HEADER.size - 1], "of 39 bytes"),
        (b"", "of 0 bytes"),
        (GOOD + bytes(BATCH_LIMIT), "bytes"),
        (spoiled(flags=4), "flags 0x4"),
        (spoiled(flags=16), "flags 0x10"),
        (spoiled(zeros=1), "flags"),
        (spoiled(total=0, span=0), "0 mixed messages"),
        (spoiled(total=3), "3 mixed messages of 2"),
        (spoiled(total=1 << 31, span=1 << 31), "mixed messages"),
        (spoiled(first=0), "number 0"),
        (spoiled(first=(1 << 63) - 2), "number"),
        (spoiled(first=1 << 63), "number"),
        (spoiled(size=1 << 31), "2 mixed messages"),
        (spoiled(rest=b"a\n\xff" + GOOD[MIXED_HEADER.size + 3 :]), "no text"),
        (spoiled(size=1), "do not fit their topics"),
        (spoiled(rest=b"a\nb\0\0\2\0" + GOOD[MIXED_HEADER.size + 7 :]), "do not fit their topics"),
        (spoiled(rest=b"a\nb\0\0\0\0" + GOOD[MIXED_HEADER.size + 7 :]), "do not fit their topics"),
    ],
)
def test_what_is_none_is_refused(record: bytes, reason: str):
    with pytest.raises(RemoteProtocolError, match=reason):
        parse_mixed(record)


@pytest.mark.parametrize("record", [GOOD[:-1], GOOD + b"!"])
def test_lengths_that_do_not_fit_show_when_it_is_taken_apart(record: bytes):
    with pytest.raises(RemoteProtocolError):
        parse_mixed(record).messages()
    with pytest.raises(RemoteProtocolError):
        parse_mixed(record).only([0])
