"""Routes: who gets what is published to a topic."""

from __future__ import annotations

import pytest

from open_channel.bus.core import routes
from open_channel.bus.core.groups import Group
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
