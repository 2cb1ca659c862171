"""Routes: who gets what is published to a topic."""

from __future__ import annotations

import pytest

from open_channel.bus.core import routes
from open_channel.bus.core.groups import Group
from open_channel.bus.core.mixed import Mixed, encode_mixed, parse_mixed
from open_channel.bus.core.records import MemberInfo, Subscribe
from open_channel.bus.core.routes import Routes
from open_channel.bus.core.seat import Seat, Subscription


def seat(number: int) -> Seat:
    member = number.to_bytes(16, "big")
    return Seat(member, MemberInfo(member, number, {}), 1024)


def subscribe(found: Routes, who: Seat, pattern: str, *, blocks: bool = False) -> Subscription:
    subscription = Subscription(who, Subscribe(1, pattern, blocks=blocks))
    found.plain.add(pattern, subscription)
    return subscription


def test_each_member_gets_a_publication_once():
    found = Routes()
    one, two = seat(1), seat(2)
    for pattern in ("a.x", "a.*", "b"):
        subscribe(found, one, pattern)
    subscribe(found, two, ">")
    route = found.find("a.x")
    assert route.seats == (one, two)
    assert not route.keeping
    assert not route.blocking
    assert not route.groups


def test_a_subscription_that_blocks_keeps_it_for_its_member():
    found = Routes()
    one, two = seat(1), seat(2)
    subscribe(found, one, "a")
    blocking = subscribe(found, one, ">", blocks=True)
    subscribe(found, two, "a")
    route = found.find("a")
    assert route.seats == (two,)
    assert route.keeping == (one,)
    assert route.blocking == (blocking,)


def test_groups_are_part_of_a_route():
    found = Routes()
    group = Group("g a.*", "a.*")
    found.shared.add("a.*", group)
    assert found.find("a.x").groups == (group,)
    assert found.find("b").groups == ()


def test_routes_are_remembered_up_to_a_number_of_topics(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(routes, "_TOPICS", 2)
    found = Routes()
    route = found.find("a")
    assert found.known == {"a": route}
    found.find("b")
    assert len(found.known) == 2
    found.find("c")
    assert list(found.known) == ["c"]


def test_equal_routes_are_one_and_forgotten_together():
    found = Routes()
    one = seat(1)
    subscribe(found, one, "a.*")
    assert found.find("a.x") is found.find("a.y")
    before = found.find("a.x")
    found.forget()
    assert not found.known
    assert found.find("a.x") is not before


def mixed(*topics: str) -> Mixed:
    names = [topic.encode() for topic in topics]
    return parse_mixed(encode_mixed(0, names, 1, b"m" * 16, [topic[-1:] for topic in names]))


def test_a_mixed_publication_of_one_route_is_shared_out_as_it_is():
    found = Routes()
    one, two = seat(1), seat(2)
    subscribe(found, one, ">")
    blocking = subscribe(found, two, ">", blocks=True)
    mix = mixed("a", "b")
    for _ in range(2):  # with routes to be found, and known
        shares = found.share_out(mix)
        assert shares.parts == [(one, mix, False), (two, mix, True)]
        assert list(shares.blocking) == [blocking]
        assert list(shares.groups) == []


def test_of_a_mixed_publication_each_gets_what_it_wants():
    found = Routes()
    one, two, three, four, five = map(seat, (1, 2, 3, 4, 5))
    subscribe(found, one, ">")
    for who in (two, three):
        subscribe(found, who, "a.*")
    subscribe(found, three, "b")
    blocking = [subscribe(found, four, pattern, blocks=True) for pattern in ("c", ">")]
    subscribe(found, five, "a.y", blocks=True)
    subscribe(found, five, "b")
    group = Group("g a.*", "a.*")
    found.shared.add("a.*", group)
    mix = mixed("a.1", "b", "a.2", "c", "b")
    shares = found.share_out(mix)
    got = {who: (b"".join(part.messages()), keep) for who, part, keep in shares.parts}
    assert got == {
        one: (b"1b2cb", False),
        two: (b"12", False),
        three: (b"1b2b", False),
        four: (b"1b2cb", True),
        five: (b"bb", False),
    }
    assert all(part.record for _, part, _ in shares.parts)
    assert sum(part is mix for _, part, _ in shares.parts) == 2
    assert set(shares.blocking) == set(blocking)
    assert list(shares.groups) == [group]


def test_those_who_want_the_same_get_the_same_record():
    found = Routes()
    one, two = seat(1), seat(2)
    for who in (one, two):
        subscribe(found, who, "a")
    (_, first, _), (_, second, _) = found.share_out(mixed("a", "b")).parts
    assert first is second
