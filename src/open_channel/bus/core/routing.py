"""Routing: who gets a publication, and which jobs and requests it brings; ``jobs`` has these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_channel.bus.core import records as r
from open_channel.bus.core.answers import decode_done, decode_reply
from open_channel.bus.core.groups import Group, Job
from open_channel.bus.core.interests import group_key, split_group_key
from open_channel.bus.core.jobs import Jobs
from open_channel.bus.core.mixed import Mixed, singles
from open_channel.bus.core.routes import Routes
from open_channel.bus.core.seat import Entry, Seat, Subscription
from open_channel.bus.core.subjects import Matcher, matches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from open_channel.bus.core.broker import Broker
    from open_channel.bus.core.mixed import AnyPublication

__all__ = ["Routing"]

_REQUEST, _EVERYONE = int(r.Flag.REQUEST), int(r.Flag.EVERYONE)
_REPLY = int(r.Flag.REPLY)


class Routing:
    """Subscriptions, groups and services of one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.jobs = Jobs(broker)
        self._routes = Routes()
        self._services: Matcher[Group] = Matcher()
        self._groups: dict[str, Group] = {}
        self._responders: dict[str, Group] = {}
        self._homeless: list[tuple[AnyPublication, Entry]] = []
        """Requests that nobody serves, unless somebody comes back who does."""
        self._asked: dict[tuple[bytes, int], list[Seat]] = {}
        """Who got which request to all."""

    @property
    def groups(self) -> Iterable[Group]:
        """Those that share messages, without the responders."""
        return self._groups.values()

    # --- subscriptions ---------------------------------------------------------------------

    def add(self, seat: Seat, record: r.Subscribe, *, back: bool = False) -> Subscription:
        """A member subscribes; one that is back gets jobs when it has told what it has in hand."""
        subscription = seat.subscriptions[record.id] = Subscription(seat, record)
        self._routes.forget()
        group = subscription.group = self._group(record)
        if group is None:
            self._routes.plain.add(record.pattern, subscription)
        else:
            group.join(subscription)
            if not back:
                self.jobs.assign(group)
        return subscription

    def _group(self, record: r.Subscribe) -> Group | None:
        if record.serves:
            return self._named("", record.pattern)
        if record.group:
            return self._named(group_key(record.group, record.pattern), record.pattern)
        return None

    def _named(self, key: str, pattern: str) -> Group:
        groups, index = (
            (self._groups, self._routes.shared) if key else (self._responders, self._services)
        )
        name = key or pattern
        if name not in groups:
            groups[name] = Group(key, pattern)
            index.add(pattern, groups[name])
        return groups[name]

    def remove(
        self, subscription: Subscription, kept: set[tuple[bytes, int, int]] | None = None
    ) -> None:
        """A subscription ends; ``kept`` are the jobs still worked on, None for all in hand."""
        seat, record = subscription.seat, subscription.record
        del seat.subscriptions[record.id]
        self._routes.forget()
        for entries in subscription.held.values():
            for entry in entries:
                entry.received()
        group = subscription.group
        if group is None:
            self._routes.plain.remove(record.pattern, subscription)
            return
        group.leave(subscription)
        if kept is not None:
            self.jobs.put_back(subscription, group, kept)
        if not group.consumers and self._broker.settled:
            self._disband(group)
            self._abandon(group.take_pending())
        else:
            self.jobs.assign(group)

    def _disband(self, group: Group) -> None:
        self._routes.forget()
        if self._groups.get(group.key) is group:
            del self._groups[group.key]
            self._routes.shared.remove(group.pattern, group)
        elif self._responders.get(group.pattern) is group:
            del self._responders[group.pattern]
            self._services.remove(group.pattern, group)

    def _abandon(self, jobs: list[Job]) -> None:
        for job in jobs:
            if not job.request:
                self.jobs.finish(job)
            elif others := self._serving(r.parse(job.record).topic):
                job.group = others[0]
                job.group.add(job)
                self.jobs.assign(job.group)
            else:
                self.jobs.end(job, r.End.NOBODY)

    def refresh(self, seat: Seat) -> None:
        """A member is in touch again."""
        for subscription in seat.subscriptions.values():
            self.jobs.refresh(subscription)

    # --- publications ----------------------------------------------------------------------

    def publish(self, publication: AnyPublication, entry: Entry, groups: set[str]) -> None:
        """Route a publication; ``groups`` is where the groups that got it are noted."""
        if publication.flags & _REQUEST:
            self._request(publication, entry)
            return
        self._hand_out(self._routes, publication, entry, groups)

    def _hand_out(
        self, routes: Routes, publication: AnyPublication, entry: Entry, groups: set[str]
    ) -> None:
        deliver = self._broker.deliver
        # Whoever was to get it then has it; who subscribes now would get some old messages, and
        # not those between them.
        plain = not publication.flags & r.TAKING
        if isinstance(publication, Mixed):
            to = routes.share_out(publication)
            for seat, part, keep in to.parts if plain else ():
                deliver(seat, part, entry, keep=keep)
            blocking, shared = to.blocking, to.groups
        else:
            topic = publication.topic
            route = routes.known.get(topic) or routes.find(topic)
            for seat in route.seats if plain else ():
                deliver(seat, publication, entry)
            for seat in route.keeping if plain else ():
                deliver(seat, publication, entry, keep=True)
            blocking, shared = route.blocking, route.groups
        for subscription in blocking if plain else ():
            subscription.hold(entry)
        for group in shared:
            if group.key not in groups:
                groups.add(group.key)
                self._share(group, publication, entry)
        if not self._broker.settled:
            self._share_reported(publication, entry, groups)

    def owed(self, subscriptions: list[Subscription]) -> Routes:
        """The routes of what was routed before a member came back, as far as they lead to it."""
        routes = Routes()
        for subscription in subscriptions:
            record, group = subscription.record, subscription.group
            if group is None:
                # One that nobody has confirmed is owed nothing, and takes nothing before that.
                if record.confirmed:
                    routes.plain.add(record.pattern, subscription)
            elif group.key:
                routes.shared.add(record.pattern, group)
        return routes

    def replay(
        self,
        seat: Seat,
        owed: Routes,
        publication: AnyPublication,
        entry: Entry,
        groups: set[str],
    ) -> None:
        """Route what was routed before this member came back."""
        if not publication.flags & _REQUEST:
            self._hand_out(owed, publication, entry, groups)
        elif publication.flags & _EVERYONE and any(
            s.record.serves and matches(s.record.pattern, publication.topic)
            for s in seat.subscriptions.values()
        ):
            self._ask(seat, publication, entry)

    def _share(self, group: Group, publication: AnyPublication, entry: Entry) -> None:
        known = entry.seat.known_done
        sender, flags = publication.sender, publication.flags
        alone = publication.total == 1 and not isinstance(publication, Mixed)
        for seq, topic, message in singles(publication, group.pattern):
            key = (sender, seq, group.key)
            if (seq, group.key) in known or self.jobs.was_done(key):
                continue
            if (job := self.jobs.find(key)) is not None:
                # Of its publisher's session before this: it is in somebody's hands, or waits.
                entry.jobs += 1
                job.move(entry)
                continue
            record = publication.record
            if not alone:
                record = r.encode_publication(
                    r.PUBLISH, flags, topic.encode(), seq, sender, r.NOBODY, [message]
                )
            entry.jobs += 1
            self.jobs.begin(Job(key, group, entry, record), flags)
        self.jobs.assign(group)

    def _share_reported(self, publication: AnyPublication, entry: Entry, groups: set[str]) -> None:
        """Jobs in hand of groups that nobody subscribes to any more."""
        for seq, name in self.jobs.reported(publication):
            _, pattern = split_group_key(name)
            topic = publication.topic
            if isinstance(publication, Mixed):
                topic = publication.topic_of(seq)
            if name not in groups and matches(pattern, topic):
                groups.add(name)
                self._share(self._named(name, pattern), publication, entry)

    # --- what members tell of jobs ---------------------------------------------------------

    def ends(self, publication: AnyPublication) -> None:
        """Jobs are done, or a request is answered."""
        publisher = self._broker.seats.get(publication.to)
        for message in publication.messages():
            if publication.flags & _REPLY:
                done = [(decode_reply(message)[0], "")]
            else:
                done = decode_done(message)
            for seq, group in done:
                if not self.jobs.done((publication.to, seq, group), publisher) and not group:
                    self._leave_home(publication.to, seq)

    def report(self, seat: Seat, reported: r.Job) -> None:
        """A member that has come back has a job in hand."""
        key = self.jobs.report(seat, reported)
        # A request that nobody serves may be what it has.
        if key and not key[2] and (homeless := self._leave_home(*key[:2])):
            self._request(*homeless)

    # --- requests --------------------------------------------------------------------------

    def _serving(self, topic: str) -> list[Group]:
        return [group for group in self._services.match(topic) if group.consumers]

    def _request(self, publication: AnyPublication, entry: Entry) -> None:
        topic = publication.topic
        services = self._serving(topic)
        if publication.flags & _EVERYONE:
            for seat in dict.fromkeys(c.seat for group in services for c in group.consumers):
                self._ask(seat, publication, entry)
            if self._broker.settled:
                self._name_responders(publication, entry)
            return
        key = (publication.sender, publication.first, "")
        if self.jobs.was_done(key):
            return
        if (job := self.jobs.find(key)) is not None:
            job.move(entry)
            return
        if services or self.jobs.is_in_hand(key):
            group = services[0] if services else Group("", topic)
            self.jobs.begin(Job(key, group, entry, publication.record), publication.flags)
            self.jobs.assign(group)
        elif self._broker.settled:
            self._broker.control(entry.seat, r.Ended(publication.first, r.End.NOBODY))
        else:
            entry.waiting += 1
            self._homeless.append((publication, entry))

    def _leave_home(self, member: bytes, seq: int) -> tuple[AnyPublication, Entry] | None:
        for homeless in self._homeless:
            publication, entry = homeless
            if (publication.sender, publication.first) == (member, seq):
                self._homeless.remove(homeless)
                entry.received()
                return homeless
        return None

    def _ask(self, seat: Seat, publication: AnyPublication, entry: Entry) -> None:
        """One of those who are to reply to a request to all."""
        if not self._broker.is_full(seat):
            self._broker.deliver(seat, publication, entry)
            self._asked.setdefault((publication.sender, publication.first), []).append(seat)

    def _name_responders(self, publication: AnyPublication, entry: Entry) -> None:
        asked = self._asked.pop((publication.sender, publication.first), [])
        if self._broker.seats.get(entry.seat.member) is not entry.seat:
            return
        members = [seat.member for seat in asked if self._broker.seats.get(seat.member) is seat]
        if members:
            self._broker.control(entry.seat, r.Responders(publication.first, members))
        else:
            self._broker.control(entry.seat, r.Ended(publication.first, r.End.NOBODY))

    def cancel(self, seat: Seat, seq: int) -> None:
        """Nobody waits for a reply any more; who works on it goes on."""
        self.jobs.cancel((seat.member, seq, ""))
        self._leave_home(seat.member, seq)

    # --- all are back ----------------------------------------------------------------------

    def settle(self, logged: list[tuple[AnyPublication, Entry]]) -> None:
        """Nobody is expected any more: what waited for somebody to come back goes on."""
        self.jobs.settle()
        homeless, self._homeless = self._homeless, []
        for publication, entry in homeless:
            if self._broker.seats.get(entry.seat.member) is entry.seat:
                self._request(publication, entry)
            entry.received()
        for publication, entry in logged:
            if publication.flags & _EVERYONE:
                self._name_responders(publication, entry)
        self.jobs.forget_finished()
        # Also those that nobody has joined here: what is in hand was reported, and no subscription.
        of_jobs = self.jobs.groups()
        for group in dict.fromkeys([*self._groups.values(), *self._responders.values(), *of_jobs]):
            if group.consumers:
                self.jobs.assign(group)
            else:
                self._disband(group)
                self._abandon(group.take_pending())
