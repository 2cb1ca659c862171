"""Routes: who gets what is published to a topic, worked out once for each topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from open_channel.bus.core.subjects import Matcher

if TYPE_CHECKING:
    from open_channel.bus.core.groups import Group
    from open_channel.bus.core.seat import Seat, Subscription

__all__ = ["Route", "Routes"]

_TOPICS = 65536  # how many topics' routes are remembered


class Route(NamedTuple):
    """Who gets what is published to one topic."""

    seats: tuple[Seat, ...]
    keeping: tuple[Seat, ...]
    """Others, with subscriptions that block."""
    blocking: tuple[Subscription, ...]
    groups: tuple[Group, ...]


class Routes:
    """The plain subscriptions and the groups by pattern, and the routes that follow from them."""

    __slots__ = ("known", "plain", "shared")

    def __init__(self) -> None:
        self.plain: Matcher[Subscription] = Matcher()
        self.shared: Matcher[Group] = Matcher()
        self.known: dict[str, Route] = {}
        """The routes found so far; to be cleared when ``plain`` or ``shared`` change."""

    def find(self, topic: str) -> Route:
        """Find a topic's route, and remember it."""
        plain = self.plain.match(topic)
        blocking = tuple(subscription for subscription in plain if subscription.record.blocks)
        keeping = dict.fromkeys(subscription.seat for subscription in blocking)
        seats = dict.fromkeys(s.seat for s in plain if s.seat not in keeping)
        route = Route(tuple(seats), tuple(keeping), blocking, self.shared.match(topic))
        if len(self.known) >= _TOPICS:
            self.known.clear()
        self.known[topic] = route
        return route
