"""A member's side of the bus: what it publishes, subscribes to, has in hand and waits for.

It survives every host. Publications are numbered once and kept until the broker acknowledges
them; whatever a new host must know is in the snapshot that opens the session with it, and the
unacknowledged publications follow it, in order. What arrives twice is recognised by its
publisher's number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_channel.bus.core import records as r
from open_channel.bus.core.answers import decode_done, decode_reply, encode_done, encode_reply
from open_channel.bus.core.arrivals import Arrivals
from open_channel.bus.core.held import Awaited, Held
from open_channel.bus.core.interests import UNKNOWN, Interest, Key
from open_channel.bus.core.mixed import parse_mixed
from open_channel.bus.core.records import Flag, MemberInfo, Publication
from open_channel.bus.core.row import Row
from open_channel.bus.core.subjects import matches
from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import OVERHEAD, SEAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_channel.bus.core.interests import Awaiting, MemberUser, Sink
    from open_channel.bus.core.mixed import AnyPublication
    from open_channel.protocol.batches import Message
    from open_channel.protocol.outbox import Outbox

__all__ = ["MemberCore"]

_FREE = int(Flag.REPLY | Flag.DONE)  # these are bounded by what is in hand
_REPLY, _DONE, _REQUEST = int(Flag.REPLY), int(Flag.DONE), int(Flag.REQUEST)


class MemberCore:
    """One member, through all its hosts."""

    def __init__(self, info: MemberInfo, outbox: Outbox, user: MemberUser) -> None:
        self.info = info
        self.user = user
        self.roster: dict[bytes, MemberInfo] = {}
        self.lineage = 0
        """Of that roster; see ``Roster``."""
        self.without: dict[bytes, int] = {}
        """{member: highest number of ours that was acknowledged without it}."""
        self.sizes = [0, 0, 0]
        """Bytes held unacknowledged: messages, jobs, and what counts against no limit."""
        self.resent = 0
        """Counts the publications sent again to a new host."""
        self.eager = False
        """Whether what has arrived should be acknowledged at once."""
        self.owes = False
        """... or soon."""
        self._outbox = outbox
        self._opened = False
        self._next = 1
        self._held: dict[int, Held] = {}
        self.row = Row()
        """What was published last, and is no publication yet."""
        self._done: dict[bytes, list[tuple[int, str]]] = {}
        self._arrivals = Arrivals()
        self._interests: dict[int, Interest] = {}
        self._counter = 0
        self._jobs: dict[Key, tuple[int, int]] = {}
        """In hand: {job: (subscription, turn)}."""
        self._finished: set[Key] = set()
        self._known_done: set[tuple[int, str]] = set()
        self._requests: dict[int, Awaiting] = {}
        self._awaited = Awaited()

    # --- publishing ------------------------------------------------------------------------

    def publish(self, topic: bytes, body: bytes, flags: int, room: int = 0) -> None:
        """Queue one message; what is published in a row becomes one publication: see ``Row``.

        ``room`` is how many bytes may follow on credit.
        """
        row = self.row
        # A large message travels alone.
        if (
            row.flags != flags
            or len(body) + OVERHEAD > SEAL
            or (row.topic is not topic and not row.mix())
        ):
            self.seal()
        if row.add(topic, body, flags, room) >= SEAL:
            self.seal()

    def seal(self) -> None:
        """Make a publication of what was published since the last one."""
        row = self.row
        if count := len(row.bodies):
            self._keep(row.seal(self._next, self.info.id), count, 0)

    def request(self, topic: bytes, to: bytes, body: bytes, flags: int, waits: Awaiting) -> int:
        """Ask whoever serves ``topic``, or one member (``to``); returns the request's number."""
        self.seal()
        kind = r.PUBLISH if to == r.NOBODY else r.DIRECT
        held = self._hold(kind, flags | _REQUEST, topic, to, [body])
        self._requests[held.first] = waits
        return held.first

    def cancel(self, seq: int) -> bool:
        """Nobody waits for this request any more; False when nobody did, which is harmless."""
        waited = self._requests.pop(seq, None) is not None
        if waited and (held := self._held.get(seq)) is not None:
            held.over = True
            self._command(r.Cancel(seq))
            self._tell_acknowledged()  # whoever works on it may be long about it
        return waited

    def reply(self, to: bytes, seq: int, failed: bool, body: bytes, flags: int) -> None:
        """Answer a request; it is in hand until the requester has the reply."""
        self.seal()
        message = encode_reply(seq, failed, body)
        held = self._hold(r.DIRECT, flags | _REPLY, b"", to, [message])
        if (key := (to, seq, "")) in self._jobs:
            held.jobs.append(key)

    def _hold(self, kind: int, flags: int, topic: bytes, to: bytes, bodies: list[bytes]) -> Held:
        sender, first = self.info.id, self._next
        record = r.encode_publication(kind, flags, topic, first, sender, to, bodies)
        return self._keep(record, len(bodies), 2 if flags & _FREE else 0)

    def _keep(self, record: Message, count: int, share: int) -> Held:
        if self._opened:
            self._outbox.write(record)  # first: what it refuses is not held
        first = self._next
        self._next += count
        held = Held(first, self._next - 1, record, len(record), share, self._opened)
        self._held[first] = held
        self.sizes[share] += held.size
        return held

    @property
    def last(self) -> int:
        """The number of the message published last."""
        return self._next + len(self.row.bodies) - 1

    @property
    def pending(self) -> bool:
        """Whether ``flush()`` has something to do."""
        return bool(self.row.bodies or self._done)

    @property
    def duplicates(self) -> int:
        """Counts the messages that came again and were dropped."""
        return self._arrivals.duplicates

    @property
    def oldest(self) -> int:
        """The number of the first message that is not acknowledged, or will be published."""
        return next(iter(self._held), self._next)

    def sinks(self) -> list[Sink]:
        """Where the messages of the present subscriptions go."""
        return [interest.sink for interest in self._interests.values()]

    @property
    def held(self) -> int:
        """How many publications are unacknowledged."""
        return len(self._held)

    @property
    def backlog(self) -> int:
        """The bytes of what waits for acknowledgement, as far as it counts against the limit."""
        return max(self.sizes[0] + self.row.size, self.sizes[1])

    def flush(self) -> None:
        """What was published and done since the last flush goes into the session."""
        self.seal()
        if self._done:
            done, self._done = self._done, {}
            for publisher, jobs in done.items():
                held = self._hold(r.DIRECT, _DONE, b"", publisher, [encode_done(jobs)])
                held.jobs += [(publisher, seq, group) for seq, group in jobs]

    def when_last_acknowledged(self, callback: Callable[[], None]) -> None:
        """Call back once the message published last is acknowledged."""
        self.seal()
        self._awaited.one.setdefault(next(reversed(self._held)), []).append(callback)

    def when_acknowledged(self, callback: Callable[[], None]) -> None:
        """Call back once everything published so far is acknowledged; at once if it is.

        A request that nobody waits for any more is not waited for here either.
        """
        self.seal()
        self._awaited.all.append((self._next, callback))
        self._tell_acknowledged()

    def _tell_acknowledged(self) -> None:
        left = (held.first for held in self._held.values() if not held.over)
        self._awaited.reached(next(left, self._next))

    # --- subscribing -----------------------------------------------------------------------

    def subscribe(self, make: Callable[[int], Interest]) -> Interest:
        """Begin a subscription; ``make`` gets its number."""
        self._counter += 1
        interest = self._interests[self._counter] = make(self._counter)
        self._command(interest.record())
        return interest

    def unsubscribe(self, interest: Interest, kept: list[tuple[bytes, int]]) -> None:
        """End a subscription; ``kept`` are the jobs that are still worked on."""
        if self._interests.pop(interest.id, None) is None:
            return
        if interest.confirmed and interest.plain:
            self._arrivals.plain.remove(interest.pattern, interest)
        mine = {key: turn for key, (owner, turn) in self._jobs.items() if owner == interest.id}
        for key in [key for key in mine if key[:2] not in kept]:
            del self._jobs[key], mine[key]
        self._command(r.Unsubscribe(interest.id, [(*key[:2], turn) for key, turn in mine.items()]))

    def interest(self, number: int) -> Interest | None:
        """One of the present subscriptions."""
        return self._interests.get(number)

    def serving(self, topic: str) -> Interest | None:
        """A responder of this member for a topic."""
        serving = (one for one in self._interests.values() if one.serves)
        return next((one for one in serving if matches(one.pattern, topic)), None)

    def done(self, interest: Interest, publisher: bytes, seq: int) -> bool:
        """A job is done; False when it was given to another meanwhile."""
        key = (publisher, seq, interest.key)
        if self._jobs.get(key, (0, 0))[0] != interest.id:  # another subscription may have it now
            return False
        del self._jobs[key]
        self._finished.add(key)
        self._done.setdefault(publisher, []).append((seq, interest.key))
        return True

    def reject(self, interest: Interest, publisher: bytes, seq: int) -> bool:
        """Give a job back; False when it was given to another meanwhile."""
        key = (publisher, seq, interest.key)
        if self._jobs.get(key, (0, 0))[0] != interest.id:
            return False
        self._command(r.Reject(*key, self._jobs.pop(key)[1]))
        return True

    def took(self, interest: Interest, publisher: bytes, seq: int) -> None:
        """The consumer of a blocking subscription has taken all up to ``seq``."""
        interest.taken[publisher] = seq
        if interest.id in self._interests:
            self._command(r.Took(interest.id, publisher, seq))

    def _command(self, record: r.Control) -> None:
        if self._opened:
            self.flush()  # what was published before it stays before it
            self._outbox.write(r.encode_control(record))

    # --- another host ----------------------------------------------------------------------

    def opened(self) -> None:
        """A session with a new hosting begins, with nothing in it."""
        # What was published and done since the last flush is sent with the rest, behind the
        # snapshot, and before the host is told that this was all.
        self._opened = False
        self.flush()
        self._opened = True
        write = self._outbox.write
        write(r.encode_control(self._snapshot()))
        for held in list(self._held.values()):
            if held.over:
                self._drop(held)
                continue
            if held.sent:
                self.resent += 1
                write(r.mark_resent(held.record, taking=held.share == 1))
            else:
                held.sent = True
                write(held.record)
        write(r.encode_control(r.Resent()))
        self._give_up()

    def _give_up(self) -> None:
        """Wait no more for who was out of touch when it was asked: only the last host knew that."""
        for seq, waits in list(self._requests.items()):
            if seq not in self._held and any(
                waits.left(member) for member, last in self.without.items() if last >= seq
            ):
                self._answered(seq)

    def _snapshot(self) -> r.Snapshot:
        self._jobs = {key: (owner, 0) for key, (owner, _) in self._jobs.items()}
        # Something of theirs may have come while the roster that names them had not yet.
        met = self._arrivals.marks.keys() | {key[0] for key in self._jobs.keys() | self._finished}
        strangers = [MemberInfo(one, 0, {}) for one in sorted(met - self.roster.keys())]
        return r.Snapshot(
            self.info,
            [interest.record() for interest in self._interests.values()],
            [r.Job(*key, owner) for key, (owner, _) in self._jobs.items()],
            list(self._known_done),
            self.without,
            [*self.roster.values(), *strangers],
            self.lineage,
        )

    # --- what the broker says --------------------------------------------------------------

    def receive(self, record: Message) -> None:
        """Take in one record; raises RemoteProtocolError when it makes no sense."""
        kind = record[0] if record else 0
        if kind == r.PUBLISH:
            self.eager = True
            self._receive_publication(r.parse(record))
        elif kind == r.MIXED:
            self.eager = True
            self._arrive(parse_mixed(record))
        elif kind == r.ACK:
            for first, last in r.decode_ack(record):
                self._acknowledged(first, last)
        elif kind == r.DIRECT:
            publication = r.parse(record)
            if publication.flags & _FREE:
                self.owes = True  # only its sender's outbox waits for this, and nobody for that
            else:
                self.eager = True
            self._receive_direct(publication)
        elif kind == r.JOB:
            self.eager = True
            self._receive_job(r.decode_job(record))
        elif kind == r.CONTROL:
            self._receive_control(r.decode_control(record))
        else:
            raise RemoteProtocolError(reason=f"a record of unknown kind {kind}")

    def _receive_publication(self, publication: Publication) -> None:
        if publication.flags & _REQUEST:  # to all responders
            key = publication.sender, publication.first, ""
            if self._arrivals.is_new(publication):
                self._serve(publication, key)
            elif key not in self._jobs:
                # It may never have come here, when this member did not serve yet.
                self._refuse(publication)
            return
        self._arrive(publication)

    def _arrive(self, publication: AnyPublication) -> None:
        for took in self._arrivals.take(publication):
            self._command(took)

    def _refuse(self, publication: Publication) -> None:
        self.reply(publication.sender, publication.first, True, b"", 0)

    def _serve(self, publication: Publication, key: Key | None = None) -> None:
        interest = self.serving(publication.topic)
        if interest is None:
            self._refuse(publication)
        else:
            if key is not None:
                self._jobs[key] = interest.id, 0
            message = publication.messages()[0]
            interest.sink.job(publication, publication.first, message, False)

    def _receive_direct(self, publication: Publication) -> None:
        if not self._arrivals.is_new(publication):
            return
        if publication.flags & _REQUEST:
            self._serve(publication)
            return
        for message in publication.messages():
            if publication.flags & _REPLY:
                seq, failed, body = decode_reply(message)
                waits = self._requests.get(seq)
                if waits is None or waits.replied(publication, failed, body):
                    self._answered(seq)
            elif publication.flags & _DONE and self._held:
                self._known_done.update(decode_done(message))

    def _answered(self, seq: int) -> None:
        """A request has ended, which is all that its acknowledgement could say."""
        self._requests.pop(seq, None)
        self._acknowledged(seq, seq)

    def _receive_job(self, job: r.Delivery) -> None:
        interest = self._interests.get(job.subscription)
        if interest is None:
            return  # closed meanwhile: the broker gives it to another when it reads that
        publication = job.publication
        key = (publication.sender, job.seq, interest.key)
        if key in self._finished:  # the host that has heard it may not be this one
            self._done.setdefault(publication.sender, []).append((job.seq, interest.key))
        elif key not in self._jobs:
            self._jobs[key] = interest.id, job.turn
            interest.sink.job(publication, job.seq, publication.messages()[0], job.redelivered)

    def _acknowledged(self, first: int, last: int) -> None:
        last = min(last, self._next - 1)
        while first <= last:
            held = self._held.get(first)
            if held is None:  # an answered request: its reply said as much
                first += 1
            else:
                first = held.last + 1
                self._drop(held)
        self.user.has_room()

    def _drop(self, held: Held) -> None:
        del self._held[held.first]
        self.sizes[held.share] -= held.size
        for key in held.jobs:
            self._finished.discard(key)
            self._jobs.pop(key, None)
        if not self._held:
            # Not only ours: a job that two were given may be told done after its publication.
            self._known_done.clear()
        elif known := self._known_done:
            self._known_done = {job for job in known if not held.first <= job[0] <= held.last}
        if self._awaited.one:
            self._awaited.acknowledged(held.first)
        if self._awaited.all:
            self._tell_acknowledged()

    def _receive_control(self, record: r.Control) -> None:
        match record:
            case r.Confirmed(number):
                self._confirmed(number)
            case r.Without(members):
                self.without = dict(members)
            case r.Gap(publisher, seq):
                self.eager = True  # its publisher's outbox waits for our knowing
                if self._arrivals.marks.get(publisher, 0) < seq:
                    for interest in self._interests.values():
                        if interest.confirmed and interest.plain:
                            interest.sink.missing(UNKNOWN)
            case r.Missed(topics):
                for topic, count in topics.items():
                    for interest in self._arrivals.plain.match(topic):
                        interest.sink.missing(count)
            case r.Lost(publisher, seq, group):
                self.eager = True  # there are no more jobs for us before the broker knows
                number, _ = self._jobs.pop((publisher, seq, group), (0, 0))
                if (owner := self._interests.get(number)) is not None:
                    owner.sink.lost(publisher, seq)
            case r.Ended(seq, why):
                if (waits := self._requests.get(seq)) is not None:
                    waits.ended(why)
                    self._answered(seq)
            case r.Responders(seq, members):
                if (waits := self._requests.get(seq)) is not None and waits.responders(members):
                    self._answered(seq)
            case r.Taking(first):
                if (held := self._held.get(first)) is not None and not held.share:
                    held.share = 1
                    self.sizes[0] -= held.size
                    self.sizes[1] += held.size
            case r.Roster(members, lineage):
                self.lineage = lineage
                self._renew_roster(members)
            case r.Joined(member):
                self._join(member)
            case r.Left(member):
                self._leave(member)
            case _:
                raise RemoteProtocolError(reason=f"{type(record).__name__} from a broker")

    def _confirmed(self, number: int) -> None:
        interest = self._interests.get(number)
        if interest is None or interest.confirmed:
            return
        interest.confirmed = True
        if interest.plain:
            self._arrivals.plain.add(interest.pattern, interest)
        interest.sink.live()

    # --- who is here -----------------------------------------------------------------------

    def _renew_roster(self, members: list[MemberInfo]) -> None:
        here = {member.id: member for member in members}
        for member in members:
            self._join(member)
        self.roster |= here  # of a stranger somebody else may know more now
        for gone in (self.roster.keys() | self._arrivals.marks.keys()) - here.keys():
            self._leave(gone)

    def _join(self, member: MemberInfo) -> None:
        if member.id not in self.roster:
            self.roster[member.id] = member
            self.user.joined(member)

    def _leave(self, member: bytes) -> None:
        # Nothing of it follows in this stream, and nobody but itself would send it to a new host.
        self._arrivals.marks.pop(member, None)
        for interest in self._interests.values():
            interest.got.pop(member, None)
            interest.taken.pop(member, None)
        info = self.roster.pop(member, None)
        if info is not None:
            self.user.left(info)
        for seq, waits in list(self._requests.items()):
            if waits.left(member):
                self._answered(seq)
