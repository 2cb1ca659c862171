"""Schedules of conversations: every step that can be taken, chosen by a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random

from open_channel.protocol.states import ChannelState, SendState
from tests.simulation.schedule import Result
from tests.simulation.talk import Client, Guest, Talk
from tests.simulation.violation import Violation

__all__ = ["replay", "run", "talk_of"]

Step = tuple[str | int | float, ...]

_DURATIONS = (0.3, 1.1, 3.2)
_AMOUNTS = (1, 1, 2, 100)
_ROUNDS = 1000
_READS = frozenset({"hear", "read"})


def talk_of(seed: int) -> Talk:
    """The world of a seed."""
    choose = Random(f"{seed} talk").choice
    return Talk(
        choose((2, 3, 4)),
        choose((1, 2, 64)),
        choose((1024, 64 * 1024)),
        leaves_at_once=choose((True, False)),
    )


# --- the steps ------------------------------------------------------------------------------------


def _guest(talk: Talk, index: int, which: int) -> Guest | None:
    """One of the guests of a process that hosts, or did; its listener runs."""
    client = talk.clients[index]
    if client.hosting is None or not client.runs:
        return None
    guests = [*client.hosting.guests.values(), *client.hosting.rest]
    return guests[which] if which < len(guests) else None


def _do_connect(talk: Talk, client: Client) -> bool:
    if client.state is not ChannelState.INITIATED:
        return False
    client.connect()
    return True


def _do_write(talk: Talk, client: Client, count: int) -> bool:
    if client.state in {ChannelState.INITIATED, ChannelState.CLOSED}:
        return False
    if client.session.outbox.state is not SendState.WRITING:
        return False
    client.write(count)
    return True


def _do_take(talk: Talk, client: Client) -> bool:
    inbox = client.session.inbox
    if client.state is ChannelState.CLOSED or not (inbox.messages or inbox.ended):
        return False
    client.take()
    return True


def _do_close(talk: Talk, client: Client) -> bool:
    if client.state is ChannelState.CLOSED:
        client.over(goodbye=False)  # again is harmless
    else:
        client.close()
    return True


def _do_leave(talk: Talk, client: Client) -> bool:
    client.leave()
    return True


def _do_crash(talk: Talk, client: Client) -> bool:
    client.crash()
    return True


def _do_free(talk: Talk, client: Client) -> bool:
    if client.alive or not client.present:
        return False
    client.present = False
    if talk.holder is not None and talk.holder.process is client:
        talk.holder = None
    return True


def _do_pause(talk: Talk, client: Client) -> bool:
    client.paused_at = talk.now
    return True


def _do_resume(talk: Talk, client: Client) -> bool:
    if client.paused_at is None:
        return False
    client.paused_at, client.woke_at = None, talk.now
    return True


def _connects(talk: Talk, client: Client) -> bool:
    wants = client.state is ChannelState.CONNECTING and client.line is None
    if talk.holder is None:
        return wants and not client.hosts
    return wants and talk.holder.process.alive


def _do_advance(talk: Talk, client: Client) -> bool:
    if not _connects(talk, client):
        return False
    client.advance()
    return True


def _do_watch(talk: Talk, client: Client) -> bool:
    line = client.line
    if line is None or not talk.silent(client):
        return False
    if talk.holder is line.hosting:
        client.suspect = line.hosting.number
    client.drop()
    return True


def _do_read(talk: Talk, client: Client, count: int) -> bool:
    if client.line is None or not client.line.down.readable:
        return False
    client.read(count)
    return True


def _do_writable(talk: Talk, client: Client) -> bool:
    if client.line is None or not client.line.up.movable:
        return False
    client.writable()
    return True


def _do_cut(talk: Talk, client: Client, up: int, down: int) -> bool:
    if client.line is None:
        return False
    client.line.cut(up, down)
    return True


def _do_hear(talk: Talk, client: Client, age: int, count: int) -> bool:
    if age >= len(client.lines):
        return False
    line = client.lines[-1 - age]
    if not (line.hosting.hosting and line.hosting.process.runs and line.up.readable):
        return False
    line.hosting.read(line, count)
    return True


def _do_drain(talk: Talk, client: Client, age: int) -> bool:
    if age >= len(client.lines):
        return False
    line = client.lines[-1 - age]
    if not (line.hosting.hosting and line.hosting.process.runs and line.down.movable):
        return False
    if line.hosting.fence():
        line.down.pump()
        if line.guest is not None and line.guest.line is line:
            line.guest.flush()
    return True


def _do_beat(talk: Talk, client: Client) -> bool:
    if client.hosts and client.hosting is not None and client.runs:
        client.hosting.beat()
    return client.hosts


def _do_look(talk: Talk, client: Client) -> bool:
    if not client.hosts or client.hosting is None or not client.runs:
        return False
    client.hosting.look()
    return True


def _do_next(talk: Talk, client: Client, which: int) -> bool:
    """A listener comes back for the next message."""
    guest = _guest(talk, client.index, which)
    if guest is None or guest.returned:
        return False
    guest.take()
    return True


def _do_reply(talk: Talk, client: Client, which: int) -> bool:
    guest = _guest(talk, client.index, which)
    if guest is None or guest.returned or not guest.session_open:
        return False
    guest.reply()
    return True


def _do_end(talk: Talk, client: Client, which: int) -> bool:
    """A listener returns, or, when it has, closes the socket it was given once more."""
    guest = _guest(talk, client.index, which)
    if guest is None:
        return False
    guest.end()
    return True


_STEPS: dict[str, Callable[..., bool]] = {
    name.removeprefix("_do_"): step
    for name, step in list(globals().items())
    if name.startswith("_do_")
}
_DEAD = frozenset({"free", "hear", "drain", "resume"})
"""What can be done to one who does not run."""


def take(talk: Talk, step: Step) -> bool:
    """Take one step; raises Violation."""
    name, *arguments = step
    if name == "time":
        talk.now += float(arguments[0])
        return True
    client = talk.clients[int(arguments[0])]
    if not client.runs and name not in _DEAD:
        return False
    try:
        return _STEPS[str(name)](talk, client, *arguments[1:])
    except Violation:
        raise
    except Exception as error:
        raise Violation(f"it raises {type(error).__name__}: {error}") from error


# --- what may come next ---------------------------------------------------------------------------


def possible(talk: Talk) -> Iterator[Step]:
    """What event loops and listeners would do."""
    for client in talk.clients:
        yield from _of(talk, client)


def _of(talk: Talk, client: Client) -> Iterator[Step]:
    index = client.index
    for age, line in enumerate(reversed(client.lines)):
        if line.hosting.hosting and line.hosting.process.runs:
            if line.up.readable:
                yield "hear", index, age
            if line.down.movable:
                yield "drain", index, age
    if not client.alive:
        if client.present:
            yield "free", index
    elif client.paused_at is None:
        if _connects(talk, client):
            yield "advance", index
        if client.line is not None:
            if client.line.down.readable:
                yield "read", index
            if client.line.up.movable:
                yield "writable", index
            if talk.silent(client):
                yield "watch", index
        inbox = client.session.inbox
        if client.state is not ChannelState.CLOSED and (inbox.messages or inbox.ended):
            yield "take", index
        yield from _of_host(talk, client)


def _of_host(talk: Talk, client: Client) -> Iterator[Step]:
    hosting = client.hosting
    if hosting is None:
        return
    guests = [*hosting.guests.values(), *hosting.rest]
    for which, guest in enumerate(guests):
        inbox = guest.session.inbox
        if not guest.returned and (guest.hand or inbox.messages or inbox.ended):
            yield "next", client.index, which
    if hosting.hosting:
        if talk.holder is not hosting:
            yield "beat", client.index
        elif any(
            guest.line is None and not guest.client.present for guest in hosting.guests.values()
        ):
            yield "look", client.index


def _schedule(seed: int, talk: Talk, tries: int) -> Iterator[Step]:
    random = Random(seed)
    choose, below, draw = random.choice, random.randrange, random.random
    weights = {
        "loop": 60,
        "connect": 3,
        "write": choose((3, 8)),
        "reply": choose((1, 4)),
        "end": choose((0, 0, 0.3, 3)),
        "close": choose((0, 0.2, 0.6)),
        "time": choose((0.3, 2)),
        "beat": choose((0, 0.5)),
        "crash": choose((0, 0.4, 1)),
        "leave": choose((0, 0.3)),
        "pause": choose((0, 1)),
        "resume": 2,
        "cut": choose((0, 0.5, 2)),
    }
    for name in random.choices(list(weights), list(weights.values()), k=tries):
        index = below(len(talk.clients))
        if name == "loop":
            if steps := list(possible(talk)):
                step = choose(steps)
                yield (*step, choose(_AMOUNTS)) if step[0] in _READS else step
        elif name == "write":
            yield name, index, choose((1, 1, 2, 5))
        elif name in {"reply", "end"}:
            yield name, index, below(4)
        elif name == "time":
            yield name, choose(_DURATIONS)
        elif name == "cut":
            yield name, index, below(5), below(5)
        elif name in {"crash", "leave"}:
            if sum(client.alive for client in talk.clients) > 1:
                holder = talk.holder
                yield name, holder.process.index if holder and draw() < 0.5 else index
        else:
            yield name, index


def come_to_rest(talk: Talk) -> None:
    """Everybody runs, nothing breaks any more, until nothing is left to do."""
    for client in talk.clients:
        if client.paused_at is not None:
            take(talk, ("resume", client.index))
    for _ in range(_ROUNDS):
        steps = list(possible(talk))
        if not steps:
            talk.at_rest()
            return
        for step in steps:
            take(talk, (*step, 100) if step[0] in _READS else step)
    raise Violation(f"it does not come to rest: {list(possible(talk))}")


def run(seed: int, length: int = 200) -> Result:
    """One random schedule."""
    talk = talk_of(seed)
    steps: list[Step] = []
    failure = ""
    try:
        for step in _schedule(seed, talk, length):
            steps.append(step)
            take(talk, step)
        come_to_rest(talk)
    except Violation as violation:
        failure = str(violation)
    return Result(seed, steps, max(0, len(talk.hostings) - 1), failure)


def replay(talk: Talk, steps: Iterable[Step]) -> str:
    """The same steps again; what did not hold."""
    try:
        for step in steps:
            take(talk, step)
        come_to_rest(talk)
    except Violation as violation:
        return str(violation)
    return ""
