"""Arrivals: each publication once, to the subscriptions that it fits."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from open_channel.bus.core import records as r
from open_channel.bus.core.arrivals import Arrivals
from open_channel.bus.core.interests import Interest
from open_channel.bus.core.mixed import Mixed, parse_mixed
from open_channel.errors import RemoteProtocolError
from tests.bus.core.verbs import info, mixed, publication

SENDER = info(2).id


class Sink:
    """What came, with its topic: see ``Sink``."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []

    def deliver(self, publication: r.Publication, messages: Sequence[bytes]) -> None:
        self.got += [(publication.topic, message) for message in messages]

    def deliver_mixed(self, mixed: Mixed, topics: Sequence[str], messages: Sequence[bytes]) -> None:
        self.got += zip(topics, messages, strict=True)


def subscribe(
    arrivals: Arrivals, number: int, pattern: str, *, blocks: bool = False
) -> tuple[Interest, Sink]:
    sink = Sink()
    interest = Interest(number, pattern, sink, blocks=blocks)  # type: ignore[arg-type]
    arrivals.plain.add(pattern, interest)
    return interest, sink


def test_a_publication_is_handed_to_whom_it_fits_once():
    arrivals = Arrivals()
    (_, one), (_, two) = subscribe(arrivals, 1, ">"), subscribe(arrivals, 2, "u")
    for _ in range(2):
        assert list(arrivals.take(r.parse(publication(2, 1, 2)))) == []
    assert one.got == [("t", b"1"), ("t", b"2")]
    assert two.got == []
    assert arrivals.duplicates == 2
    assert arrivals.marks == {SENDER: 2}


def test_a_mixed_one_is_shared_out_once():
    arrivals = Arrivals()
    sinks = [
        subscribe(arrivals, number, pattern)[1]
        for number, pattern in enumerate((">", "a.*", "b", "c", "a.x"), 1)
    ]
    for _ in range(2):
        assert list(arrivals.take(parse_mixed(mixed(2, 1, "b", "a.x", "b", "a.y")))) == []
    found = [[body for _, body in sink.got] for sink in sinks]
    assert found == [[b"1", b"2", b"3", b"4"], [b"2", b"4"], [b"1", b"3"], [], [b"2"]]
    assert sinks[1].got == [("a.x", b"2"), ("a.y", b"4")]
    assert arrivals.duplicates == 4
    assert arrivals.marks == {SENDER: 4}


def test_a_part_of_a_mixed_one_stands_for_all_its_numbers():
    arrivals = Arrivals()
    _, sink = subscribe(arrivals, 1, "a")
    whole = parse_mixed(mixed(2, 1, "b", "a", "b"))
    arrivals.take(parse_mixed(whole.only([1]).record))
    arrivals.take(whole)  # of another host, before which this member has more subscriptions
    assert sink.got == [("a", b"2")]
    assert arrivals.marks == {SENDER: 3}


@pytest.mark.parametrize("mixes", [False, True])
def test_a_blocking_one_says_what_it_will_not_take(mixes: bool):
    arrivals = Arrivals()
    _, plain = subscribe(arrivals, 1, ">")
    blocking, sink = subscribe(arrivals, 2, ">", blocks=True)
    one = parse_mixed(mixed(2, 1, "t", "u")) if mixes else r.parse(publication(2, 1, 2))
    assert list(arrivals.take(one)) == []
    assert blocking.got == {SENDER: 2}
    assert len(sink.got) == len(plain.got) == 2
    assert list(arrivals.take(one)) == []  # it waits in the queue
    late, _ = subscribe(arrivals, 3, "t", blocks=True)
    assert list(arrivals.take(one)) == [r.Took(late.id, SENDER, 2)]
    blocking.taken[SENDER] = 2
    took = [r.Took(blocking.id, SENDER, 2), r.Took(late.id, SENDER, 2)]
    assert sorted(arrivals.take(one), key=lambda record: record.id) == took


@pytest.mark.parametrize("record", [publication(2, 1, 2), mixed(2, 1, "t", "u")])
def test_what_cannot_be_taken_apart_is_refused(record: bytes):
    arrivals = Arrivals()
    subscribe(arrivals, 1, ">")
    parse = parse_mixed if record[0] == r.MIXED else r.parse
    with pytest.raises(RemoteProtocolError):
        arrivals.take(parse(record[:-1]))
