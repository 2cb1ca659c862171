"""What one member can do to others, thing by thing: what chance would take long to come upon."""

from __future__ import annotations

from collections import Counter

import pytest

from open_channel.bus.core import records as r
from open_channel.bus.core import seat
from open_channel.bus.core.interests import UNKNOWN
from tests.fuzz.brokers import HOSTILE, Bench
from tests.fuzz.hosts import _HOSTILE_PID, _PEOPLE, _PID, Place, Stage
from tests.fuzz.people import Sub
from tests.fuzz.script import again
from tests.fuzz.speech import frame, messages

ME = HOSTILE[0]


def snapshot(*subscriptions: r.Subscribe) -> bytes:
    info = r.MemberInfo(ME, 8, {})
    return r.encode_control(r.Snapshot(info, list(subscriptions), [], [], {}, []))


def publication(topic: str, first: int = 1, size: int = 3) -> bytes:
    to = r.NOBODY
    return bytes(r.encode_publication(r.PUBLISH, 0, topic.encode(), first, ME, to, [bytes(size)]))


@pytest.fixture
def bench() -> Bench:
    return Bench(Counter(), expects=False, merges=False)


def test_who_never_reads_cannot_ask_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("open_channel.bus.core.broker._UNTOLD", 2000)
    bench.say(0, snapshot())
    for number in range(1, 10_000):
        bench.say(0, r.encode_control(r.Subscribe(number, "own")))
        if bench.refused:
            break
    (reason,) = bench.refused
    assert "of answers are not read" in reason
    asked = len(bench.broker.seats[ME].subscriptions)
    bench.read(0)
    bench.read(0)
    bench.say(0, r.encode_control(r.Subscribe(number, "own")))
    assert len(bench.broker.seats[ME].subscriptions) == asked + 1
    bench.end()


def test_a_record_that_a_member_does_not_take_is_no_fault_of_its_publisher(bench: Bench):
    bench.say(0, snapshot(r.Subscribe(1, "news", confirmed=True)))
    bench._box(ME).agree(1 << 22, 100)
    bench.people[0].publish("news", 1, size=1000)
    bench.pump()
    assert bench.broker.seats[ME].unfit > 1000
    assert bench.people[0].core.held == 1
    bench.leave(0)
    bench.end()


def stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first of the innocent subscribes to all of it, and does not read for too long."""
    told: list[int] = []
    monkeypatch.setattr(Sub, "missing", lambda self, count: told.append(count))
    who = bench.people[0]
    who.subs.append(Sub(who, ">"))
    bench.pump()
    bench.say(0, snapshot())
    bench.say(0, publication("own"))
    bench.now += 2.0
    bench.broker.tick(bench.now)
    assert bench.broker.seats[who.id].released
    return told


def test_what_is_missed_on_many_topics_is_told_in_pieces(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    told = stopped(bench, monkeypatch)
    for number in range(2, 502):
        bench.say(0, publication(f"own.{number}.{'x' * 900}", number, 200))
    assert len(bench.broker.seats[bench.people[0].id].dropped) > 300
    bench._box(bench.people[0].id).max_message = 64 * 1024  # as little as any takes
    bench.pump()
    assert not bench.broker.seats[bench.people[0].id].unfit
    assert sum(told) > 300


def test_of_too_many_topics_only_that_something_is_missing_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(seat, "_COUNTED", 50)
    told = stopped(bench, monkeypatch)
    for number in range(2, 502):
        bench.say(0, publication(f"own.{number}.{'x' * 900}", number, 200))
    place = bench.broker.seats[bench.people[0].id]
    assert len(place.dropped) <= 50
    bench.pump()
    assert not place.dropped
    assert UNKNOWN in told


# --- a whole host ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place() -> Place:
    return Place()


def test_a_refused_record_ends_the_session_and_holds_nobody_back(place: Place):
    """The news that it has received something is as good as ever."""
    stage = Stage(place, Counter())
    with stage:
        stage.connect(0, again(ME, 1), 1)
        stage.send(0, messages([r.encode_control(r.Subscribe(1, "news"))]), 0)
        stage._settle()
        stage.clients[0].who.publish("news", 1)
        stage._settle()
        assert stage.clients[0].who.core.held == 1
        plug = stage.plugs[0]
        assert plug is not None
        stage._hear(0, plug.take())
        # Its acknowledgement, and a record that is none, in one piece.
        stage.send(0, messages([b"?"], stage.heard[0]), 0)
        stage._settle()
        assert stage.clients[0].who.core.held == 0
        assert ME not in stage.service.broker.seats
        assert ME in stage.clients[1].who.gone
        stage.end()


def test_one_that_breaks_off_in_the_midst_of_a_read_can_go_on(place: Place):
    stage = Stage(place, Counter())
    with stage:
        stage.connect(0, again(ME, 1), 1)
        stage.send(0, messages([publication("news")]) + frame(99), 0)
        stage._settle()
        assert ME in stage.service.broker.seats  # parked: its process lives
        stage.end()
        assert stage.clients[0].who.subs[0].got[ME] == []


def test_an_id_is_one_processs_alone(place: Place):
    """Whoever is here already, unless its presence file names the other."""
    stage = Stage(place, Counter())
    with stage:
        for counter in (2, 2**40, 2**64 - 1):
            stage.connect(0, again(_PEOPLE[1], counter), counter)
            assert stage.plugs[0] is not None
            assert stage.plugs[0].peer is not None
            assert stage.plugs[0].peer.closing
        stage.sleep(1.0)
        assert stage.clients[1].lost == 0
        # Now the other way round: the impostor is here first.
        stage.connect(0, again(ME, 5), 5)
        (impostor,) = (g for g in stage.host._guests.values() if g.member == ME)
        impostor.peer = impostor.peer._replace(pid=_HOSTILE_PID + 1)
        assert stage.host._guests[ME].peer.pid not in {_HOSTILE_PID, _PID}
        stage.connect(1, again(ME, 1), 1)
        assert stage.host._guests[ME] is not impostor
        assert stage.host._guests[ME].peer.pid == _HOSTILE_PID
        stage.drop(1)
        stage.end()
