"""Routing: who gets a publication, and what becomes of the jobs and requests among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_channel.bus.core import records as r
from open_channel.bus.core.answers import decode_done, decode_reply
from open_channel.bus.core.groups import Group, Job
from open_channel.bus.core.interests import group_key
from open_channel.bus.core.mixed import Mixed, singles
from open_channel.bus.core.routes import Routes
from open_channel.bus.core.seat import NOTHING, Entry, Seat, Subscription
from open_channel.bus.core.subjects import Matcher, matches

if TYPE_CHECKING:
    from open_channel.bus.core.broker import Broker
    from open_channel.bus.core.interests import Key
    from open_channel.bus.core.mixed import AnyPublication

__all__ = ["Routing"]

_REQUEST, _EVERYONE = int(r.Flag.REQUEST), int(r.Flag.EVERYONE)
_REPLY, _DONE, _RESENT = int(r.Flag.REPLY), int(r.Flag.DONE), int(r.Flag.RESENT)


class Routing:
    """Subscriptions, groups and jobs of one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._routes = Routes()
        self._services: Matcher[Group] = Matcher()
        self._groups: dict[str, Group] = {}
        self._responders: dict[str, Group] = {}
        self._jobs: dict[Key, Job] = {}
        self._later: dict[Key, Job] = {}
        """Jobs that somebody may have in hand who has not come back yet."""
        self._homeless: list[tuple[AnyPublication, Entry]] = []
        """Requests that nobody serves, unless somebody comes back who does."""
        self._asked: dict[tuple[bytes, int], list[Seat]] = {}
        """Who got which request to all."""
        self._in_hand: dict[Key, Subscription] = {}
        """What members reported that has not been routed yet, and in whose hands it is."""
        self._finished: set[Key] = set()
        """What members reported whose publisher has not come back yet."""

    # --- subscriptions ---------------------------------------------------------------------

    def add(self, seat: Seat, record: r.Subscribe, *, back: bool = False) -> Subscription:
        """A member subscribes; one that is back gets jobs when it has told what it has in hand."""
        subscription = seat.subscriptions[record.id] = Subscription(seat, record)
        self._routes.forget()
        group = self._group(record)
        if group is None:
            self._routes.plain.add(record.pattern, subscription)
        else:
            group.join(subscription)
            if not back:
                self._assign(group)
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
        group = self._group(record)
        if group is None:
            self._routes.plain.remove(record.pattern, subscription)
            return
        group.leave(subscription)
        if kept is not None:
            back = [
                job
                for key, job in seat.jobs.items()
                if job.holder is subscription and (*key[:2], job.turn) not in kept
            ]
            for job in back:
                del seat.jobs[job.key]
            group.put_back(back)
            for key, holder in list(self._in_hand.items()):
                if holder is subscription and (*key[:2], 0) not in kept:
                    self._drop_report(key)
        if not group.consumers and self._broker.settled:
            self._disband(group)
            self._abandon(group.take_pending())
        else:
            self._assign(group)

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
                self._finish(job)
            elif others := self._serving(r.parse(job.record).topic):
                job.group = others[0]
                job.group.add(job)
                self._assign(job.group)
            else:
                self._end(job, r.End.NOBODY)

    def died(self, seat: Seat) -> None:
        """A member is dead; its subscriptions are removed already."""
        jobs, seat.jobs = seat.jobs, {}
        for job in jobs.values():
            if job.request:
                job.holder = None
                self._end(job, r.End.DIED)
            elif job.group.consumers or not self._broker.settled:
                job.group.put_back([job])
                self._assign(job.group)
            else:
                job.holder = None
                self._finish(job)
        for key in [key for key, holder in self._in_hand.items() if holder.seat is seat]:
            self._drop_report(key)
        for job in [job for job in self._jobs.values() if job.entry.seat is seat and job.request]:
            if job.holder is None:
                self._finish(job)
        self.forget_reports(seat, dead=True)

    def take_back(self, seat: Seat) -> None:
        """A member is out of touch: what it has not read of its jobs goes to others."""
        for key, job in list(seat.jobs.items()):
            if job.read or job.holder is None:
                continue
            del seat.jobs[key]
            job.group.free(job.holder)
            job.group.put_back([job])
            self._broker.control(seat, r.Lost(*key), NOTHING)
            self._assign(job.group)

    def refresh(self, seat: Seat) -> None:
        """A member is in touch again."""
        for subscription in seat.subscriptions.values():
            self._refresh(subscription)

    def _refresh(self, subscription: Subscription) -> None:
        group = self._group(subscription.record)
        if group is not None:
            group.refresh(subscription)
            self._assign(group)

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
        if self._in_hand and not self._broker.settled:
            self._share_reported(publication, entry, groups)

    def owed(self, subscriptions: list[Subscription]) -> Routes:
        """The routes of what was routed before a member came back, as far as they lead to it."""
        routes = Routes()
        for subscription in subscriptions:
            record = subscription.record
            group = self._group(record)
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

    # --- jobs ------------------------------------------------------------------------------

    def _share(self, group: Group, publication: AnyPublication, entry: Entry) -> None:
        known = entry.seat.known_done
        sender, flags = publication.sender, publication.flags
        alone = publication.total == 1 and not isinstance(publication, Mixed)
        for seq, topic, message in singles(publication, group.pattern):
            key = (sender, seq, group.key)
            if (seq, group.key) in known or key in self._finished:
                continue
            if (job := self._jobs.get(key)) is not None:
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
            self._begin(Job(key, group, entry, record), flags)
        self._assign(group)

    def _share_reported(self, publication: AnyPublication, entry: Entry, groups: set[str]) -> None:
        """Jobs in hand of groups that nobody subscribes to any more."""
        for key in list(self._in_hand):
            sender, seq, name = key
            if sender != publication.sender or not publication.first <= seq <= publication.last:
                continue
            group, _, pattern = name.rpartition(" ")
            topic = publication.topic
            if isinstance(publication, Mixed):
                topic = publication.topic_of(seq)
            if group and name not in groups and matches(pattern, topic):
                groups.add(name)
                self._share(self._named(name, pattern), publication, entry)

    def _begin(self, job: Job, flags: int) -> None:
        job.entry.waiting += 1
        job.redelivered = bool(flags & _RESENT)  # somebody may have begun who died with his host
        self._jobs[job.key] = job
        reported = self._in_hand.pop(job.key, None)
        if reported is not None:
            reported.in_hand -= 1
            self._give(job, reported)
        elif job.redelivered and not self._broker.settled:
            self._later[job.key] = job
        else:
            job.group.add(job)

    def _give(self, job: Job, subscription: Subscription) -> None:
        job.read = True
        job.turn = 0
        job.group.hold(job, subscription)

    def report(self, seat: Seat, reported: r.Job) -> None:
        """A member that has come back has a job in hand."""
        key = (reported.publisher, reported.seq, reported.group)
        number = reported.subscription  # it may be closed, and worked for still
        subscription = seat.subscriptions.get(number) or Subscription(seat, r.Subscribe(number, ""))
        job = self._jobs.get(key)
        if job is not None and job.holder is None:
            self._later.pop(key, None)
            job.group.drop(job)
            self._give(job, subscription)
        elif job is not None or (key[2] and key in self._in_hand):
            self._broker.control(seat, r.Lost(*key))
        elif reported.publisher in self._broker.seats and key not in self._in_hand:
            self._in_hand[key] = subscription
            subscription.in_hand += 1
            self._find_home(key)

    def take_reports(self, seat: Seat) -> None:
        """All that was routed before a member came back is routed to it: what it has in hand of
        those who have sent all again, and has not been found, is done.
        """
        for key in [key for key, holder in self._in_hand.items() if holder.seat is seat]:
            if self._broker.seats[key[0]].back:
                self._disown(key)

    def _disown(self, key: Key) -> None:
        """What a member has reported was done without it, while it was out of touch."""
        if key[2]:
            self._broker.control(self._in_hand[key].seat, r.Lost(*key))
        self._drop_report(key)

    def _drop_report(self, key: Key) -> None:
        (holder := self._in_hand.pop(key)).in_hand -= 1
        if holder.record.id in holder.seat.subscriptions:
            self._refresh(holder)

    def forget_reports(self, publisher: Seat, *, dead: bool = False) -> None:
        """A publisher has sent all again that is not done: the rest is."""
        member = publisher.member
        let_go = self._drop_report if dead else self._disown
        for key in [key for key in self._in_hand if key[0] == member]:
            let_go(key)
        if self._broker.settled:  # else what is in the log may yet be shared out
            self._finished = {key for key in self._finished if key[0] != member}

    def _assign(self, group: Group) -> None:
        self._broker.dirty.update(dict.fromkeys(group.assign(self._broker.now)))

    def _finish(self, job: Job) -> None:
        self._jobs.pop(job.key, None)
        self._later.pop(job.key, None)
        group, holder = job.group, job.holder
        if holder is not None:
            job.holder = None
            holder.seat.jobs.pop(job.key, None)
            group.free(holder)
            self._assign(group)
        else:
            group.drop(job)
        if not job.request:
            job.entry.jobs -= 1
        job.entry.received()

    def ends(self, publication: AnyPublication) -> None:
        """Jobs are done, or a request is answered."""
        publisher = self._broker.seats.get(publication.to)
        for message in publication.messages():
            if publication.flags & _REPLY:
                done = [(decode_reply(message)[0], "")]
            else:
                done = decode_done(message)
            for seq, group in done:
                key = (publication.to, seq, group)
                if (job := self._jobs.get(key)) is not None:
                    job.entry.answered = job.request
                    self._finish(job)
                    continue
                # While what is logged may yet be shared out, also of one who is gone.
                if not self._broker.settled or (publisher is not None and not publisher.back):
                    self._finished.add(key)
                if not group:
                    self._leave_home(publication.to, seq)

    def reject(self, seat: Seat, key: Key, turn: int) -> None:
        """A consumer gives a job back that was handed to it for the ``turn``-th time."""
        job = seat.jobs.get(key)
        if job is None or job.holder is None:
            if key in self._in_hand and self._in_hand[key].seat is seat:
                self._drop_report(key)
            return
        if job.turn != turn:
            return
        del seat.jobs[key]
        holder, job.holder = job.holder, None
        job.redelivered = True
        job.read = False
        if not job.group.consumers and self._broker.settled:
            self._finish(job)
            return
        job.group.add(job)
        job.group.free(holder)
        self._assign(job.group)

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
        if key in self._finished:
            return
        if (job := self._jobs.get(key)) is not None:
            job.move(entry)
            return
        if services or key in self._in_hand:
            group = services[0] if services else Group("", topic)
            self._begin(Job(key, group, entry, publication.record), publication.flags)
            self._assign(group)
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

    def _find_home(self, key: Key) -> None:
        """A request that nobody serves is in somebody's hands."""
        if not key[2] and (homeless := self._leave_home(*key[:2])):
            self._request(*homeless)

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

    def _end(self, job: Job, why: r.End) -> None:
        seat = job.entry.seat
        if self._broker.seats.get(seat.member) is seat:
            self._broker.control(seat, r.Ended(job.key[1], why))
        self._finish(job)

    def cancel(self, seat: Seat, seq: int) -> None:
        """Nobody waits for a reply any more; who works on it goes on."""
        job = self._jobs.get((seat.member, seq, ""))
        if job is not None and job.holder is None:
            self._finish(job)
        self._leave_home(seat.member, seq)

    # --- all are back ----------------------------------------------------------------------

    def settle(self, logged: list[tuple[AnyPublication, Entry]]) -> None:
        """Nobody is expected any more: what waited for somebody to come back goes on."""
        later, self._later = self._later, {}
        for job in later.values():
            job.group.add(job)
        homeless, self._homeless = self._homeless, []
        for publication, entry in homeless:
            if self._broker.seats.get(entry.seat.member) is entry.seat:
                self._request(publication, entry)
            entry.received()
        for publication, entry in logged:
            if publication.flags & _EVERYONE:
                self._name_responders(publication, entry)
        owing = {seat.member for seat in self._broker.seats.values() if not seat.back}
        self._finished = {key for key in self._finished if key[0] in owing}
        # Also those that nobody has joined here: what is in hand was reported, and no subscription.
        of_jobs = [job.group for job in self._jobs.values()]
        for group in dict.fromkeys([*self._groups.values(), *self._responders.values(), *of_jobs]):
            if group.consumers:
                self._assign(group)
            else:
                self._disband(group)
                self._abandon(group.take_pending())
