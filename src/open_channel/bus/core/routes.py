"""Routes: who gets what is published to a topic, worked out once for each topic.

What is published to several topics at once is shared out by their routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from open_channel.bus.core.mixed import by_value
from open_channel.bus.core.subjects import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterable

    from open_channel.bus.core.groups import Group
    from open_channel.bus.core.mixed import Mixed
    from open_channel.bus.core.seat import Seat, Subscription

__all__ = ["Route", "Routes", "Shares"]

_TOPICS = 65536  # how many topics' routes are remembered


class Route(NamedTuple):
    """Who gets what is published to one topic."""

    seats: tuple[Seat, ...]
    keeping: tuple[Seat, ...]
    """Others, with subscriptions that block."""
    blocking: tuple[Subscription, ...]
    groups: tuple[Group, ...]


class Shares(NamedTuple):
    """Who gets what of a mixed publication."""

    parts: list[tuple[Seat, Mixed, bool]]
    """(who, what, whether a subscription that blocks is among those that want it)."""
    blocking: Iterable[Subscription]
    """Those that want any of it."""
    groups: Iterable[Group]
    """The same."""


class Routes:
    """The plain subscriptions and the groups by pattern, and the routes that follow from them."""

    __slots__ = ("_matched", "_same", "known", "plain", "shared")

    def __init__(self) -> None:
        self.plain: Matcher[Subscription] = Matcher()
        self.shared: Matcher[Group] = Matcher()
        self.known: dict[str, Route] = {}
        """The routes found so far; to be forgotten when ``plain`` or ``shared`` change."""
        self._matched: dict[tuple[tuple[Subscription, ...], tuple[Group, ...]], Route] = {}
        self._same: dict[Route, Route] = {}
        """So that equal routes are one object."""

    def forget(self) -> None:
        """Forget the routes found so far."""
        self.known.clear()
        self._matched.clear()
        self._same.clear()

    def find(self, topic: str) -> Route:
        """Find a topic's route, and remember it."""
        plain, groups = found = self.plain.match(topic), self.shared.match(topic)
        route = self._matched.get(found) or self._route(plain, groups)
        if len(self.known) >= _TOPICS:
            self.forget()
        self.known[topic] = self._matched[found] = route
        return route

    def _route(self, plain: tuple[Subscription, ...], groups: tuple[Group, ...]) -> Route:
        blocking = tuple(subscription for subscription in plain if subscription.record.blocks)
        keeping = dict.fromkeys(subscription.seat for subscription in blocking)
        seats = dict.fromkeys(s.seat for s in plain if s.seat not in keeping)
        route = Route(tuple(seats), tuple(keeping), blocking, groups)
        return self._same.setdefault(route, route)

    def share_out(self, mixed: Mixed) -> Shares:
        """Who gets what of a mixed publication; mostly its topics have all the same route."""
        known, find = self.known, self.find
        routes = [known.get(topic) or find(topic) for topic in mixed.topics]
        parts: list[tuple[Seat, Mixed, bool]] = []
        if routes.count(routes[0]) == len(routes):
            seats, keeping, blocking, groups = routes[0]
            parts += [(seat, mixed, False) for seat in seats]
            parts += [(seat, mixed, True) for seat in keeping]
            return Shares(parts, blocking, groups)
        wanted: dict[Seat, list[int]] = {}
        kept: dict[Seat, None] = {}
        all_blocking: dict[Subscription, None] = {}
        all_groups: dict[Group, None] = {}
        for places in by_value(list(map(id, routes))).values():
            seats, keeping, blocking, groups = routes[places[0]]
            for seat in (*seats, *keeping):
                wanted.setdefault(seat, []).extend(places)
            kept.update(dict.fromkeys(keeping))
            all_blocking.update(dict.fromkeys(blocking))
            all_groups.update(dict.fromkeys(groups))
        made: dict[tuple[int, ...], Mixed] = {}
        for seat, indices in wanted.items():
            key = tuple(sorted(indices))
            if key not in made:
                made[key] = mixed.only(key)
            parts.append((seat, made[key], seat in kept))
        return Shares(parts, all_blocking, all_groups)
