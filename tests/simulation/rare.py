"""Scenes for the steps that random schedules hardly ever take; each must hold like any other."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.app import Sub, Waiting
from tests.simulation.play import Scene
from tests.simulation.world import Settings

__all__ = ["RARE"]

_LAGGING = 1.1
_GRACE = 6.5
_LARGE = 40_000  # bytes: two such messages and what follows them need two frames


def _hosted(members: int = 5, settings: Settings | None = None) -> Scene:
    scene = Scene(members, settings)
    scene.hosted_by(0)
    return scene


# --- members that have told a new host a part of what they know -----------------------------------


def _returning(*, little: bool = False, lag: float = 1.0, late: bool = False) -> Scene:
    """Member 1 has sent the new host, 2, its snapshot and a part of its publications.

    The rest waits for the window; 3 is expected still. With ``late`` both were absent before.
    Sessions are given ``little`` at a time, or all.
    """
    settings = Settings(size=_LARGE, lag=lag)
    scene = _hosted(5, settings._replace(feed=100, patience=0) if little else settings)
    scene.subscribe(1)
    scene.subscribe(4)
    scene.run()
    scene.hold(4)
    scene.publish(1, count=3)
    scene.do("flush", 1)
    scene.hold(1, 3)
    scene.die(0)
    scene.elect(2)
    scene.run()
    if late:
        scene.do("time", _GRACE)
        scene.run()
    while scene[1].connection is not None:
        scene.do("read", 1, 100)
    scene.do("advance", 1)
    scene.do("hear", 1, 0, 1)
    scene.do("read", 1, 1)
    scene.do("hear", 1, 0, 2)
    return scene


def _dies(scene: Scene) -> None:
    scene.die(1)
    while scene.world.take(("hear", 1, 0, 100)):
        pass
    scene.rest()


def _passes(scene: Scene, seconds: float) -> None:
    scene.do("time", seconds)
    scene.do("tick", 2)


def returning_and_dead() -> None:
    _dies(_returning())


def returning_and_lagging() -> None:
    scene = _returning()
    _passes(scene, _LAGGING)
    scene.rest()


def returning_and_lagging_with_more_to_come() -> None:
    """It says that it has told all before it has received all."""
    scene = _returning(little=True)
    _falls_behind(scene)
    for _ in range(3):
        scene.world.take(("read", 1, 1))
        scene.world.take(("hear", 1, 0, 1))
    scene.rest()


def _falls_behind(scene: Scene) -> None:
    """More is waiting for it than its session is given at a time."""
    for _ in range(3):
        scene.publish(2)
        scene.run()
    _passes(scene, _LAGGING)


def returning_lagging_and_dead() -> None:
    scene = _returning(little=True)
    _falls_behind(scene)
    _dies(scene)


def returning_and_late() -> None:
    scene = _returning(lag=1000.0)
    _passes(scene, _GRACE)
    scene.rest()


def returning_lagging_and_late() -> None:
    scene = _returning()
    _passes(scene, _GRACE)
    scene.rest()


def opening_and_dead() -> None:
    scene = _hosted(5, Settings(size=_LARGE))
    scene.do("join")
    scene.publish(5, count=3)
    scene.do("advance", 5)
    scene.do("hear", 5, 0, 1)
    scene.do("read", 5, 1)
    scene.do("hear", 5, 0, 1)
    scene.die(5)
    scene.rest()


def opening_and_lagging() -> None:
    scene = _returning(late=True)
    _passes(scene, _LAGGING)
    scene.rest()


def opening_lagging_and_dead() -> None:
    scene = _returning(little=True, late=True)
    _falls_behind(scene)
    _dies(scene)


def an_old_hello_is_refused() -> None:
    """It is read after the next one's, on a connection that somebody waits on still."""
    scene = _hosted()
    scene.do("join")
    scene.do("advance", 5)
    old = scene[5].connection
    scene[5].connection = None
    scene.do("advance", 5)
    scene.do("hear", 5, 0, 1)
    scene.do("hear", 5, 1, 1)
    new, scene[5].connection = scene[5].connection, old
    scene.do("read", 5, 100)
    scene[5].connection = new
    scene.rest()


# --- a deleted directory --------------------------------------------------------------------------


def the_directory_is_deleted() -> None:
    """Rosters tell who lives; who was not in touch is expected, and gets what it must."""
    scene = _hosted()
    sub = scene.subscribe(3)
    scene.run()
    scene.hold(3)
    scene.do("wipe")
    scene.do("beat", 0)
    scene.elect(2)
    scene.run()
    scene.publish(1)
    scene.run()
    assert scene[1].unacked == [1]
    scene.rest()
    assert scene.numbers(sub, 1) == [1]


def the_directory_is_deleted_and_the_next_host_dies() -> None:
    """Only who was back there is sure to have a file; what was received of others stays known."""
    scene = _hosted()
    sub, late = scene.subscribe(3), scene.subscribe(4)
    scene.run()
    scene.hold(4)
    scene.publish(1)
    scene.run()
    assert scene.numbers(sub, 1) == [1]
    assert scene[1].unacked == [1]  # since 4 has not received it
    scene.hold(1)
    scene.do("wipe")
    scene.do("beat", 0)
    scene.elect(2)
    scene.run()
    scene.die(2)
    scene.run()
    scene.publish(3)
    scene.run()
    assert scene[3].unacked == [1]
    scene.rest()
    assert scene.numbers(sub, 1) == [1]
    assert [scene.numbers(late, publisher) for publisher in (1, 3)] == [[1], [1]]


def the_directory_is_deleted_before_the_roster_is_read() -> None:
    """Whose job one has done is somebody to ask for, though nobody has told who is here."""
    scene = Scene(4, Settings(feed=100, patience=0))
    sub = scene.subscribe(3, kind=3)
    scene.hold(2, 3)
    scene.hosted_by(0)
    scene.publish(1, count=3)
    scene.run()
    scene.do("advance", 3)
    scene.do("hear", 3, 0, 100)
    scene.do("read", 3, 100)
    scene.do("hear", 3, 0, 100)
    scene.do("read", 3, 1)
    assert sub.hands
    assert not scene[3].core.roster
    scene.do("wipe")
    scene.do("beat", 0)
    scene.finish(sub)
    scene.hold(0, 1)
    scene.elect(2)
    scene.let_go([2, 3])
    scene.rest()


# --- work in hand at a host that does not wait any more -------------------------------------------


def _worker_is_absent(kind: int) -> tuple[Scene, Sub, Sub]:
    """Two that share work, each with its hands full; the first, 3, comes back after the grace."""
    scene = _hosted()
    first = scene.subscribe(3, kind=kind, prefetch=1)
    scene.run()
    _ask(scene, kind)
    scene.run()
    second = scene.subscribe(4, kind=kind, prefetch=1)
    scene.run()
    assert first.hands
    scene.hold(3)
    return scene, first, second


def _ask(scene: Scene, kind: int) -> Waiting | None:
    if kind == 2:
        return scene.request(1)
    scene.publish(1)
    return None


def _waits_no_longer(scene: Scene) -> None:
    scene.die(0)
    scene.elect(2)
    scene.run()
    scene.do("time", _GRACE)
    scene.do("tick", 2)


def reported_while_it_waits(kind: int) -> None:
    scene, _, second = _worker_is_absent(kind)
    _ask(scene, kind)
    scene.run()
    assert second.hands
    _waits_no_longer(scene)
    scene.run()
    scene.let_go()
    scene.rest()


def reported_while_it_is_on_its_way(kind: int) -> None:
    scene, _, second = _worker_is_absent(kind)
    _waits_no_longer(scene)
    scene.hold(4)
    scene.run()
    assert not second.hands
    scene.let_go([3])
    scene.rest()


def reported_while_another_has_it(kind: int) -> None:
    scene, _, second = _worker_is_absent(kind)
    _waits_no_longer(scene)
    scene.run()
    assert second.hands
    scene.let_go()
    scene.rest()


# --- requests -------------------------------------------------------------------------------------


def a_responder_dies_before_it_reads() -> None:
    scene = _hosted(5, Settings(feed=100, patience=0))
    scene.subscribe(3)
    scene.subscribe(3, kind=2)
    scene.run()
    scene.hold(3)
    for _ in range(3):
        scene.publish(1)
        scene.run()
    waiting = scene.request(1)  # which waits behind them, in the broker's own queue
    scene.run()
    scene.die(3)
    scene.let_go()
    scene.rest()
    assert waiting.over == "DIED"


def _asked_again() -> tuple[Scene, Waiting]:
    """A request was sent again, and 3, who had it, is not back."""
    scene = _hosted()
    scene.subscribe(3, kind=2)
    scene.run()
    waiting = scene.request(1)
    scene.run()
    scene.subscribe(4, kind=2)
    scene.run()
    scene.hold(1, 3)
    scene.die(0)
    scene.elect(2)
    scene.run()
    scene.let_go([1])
    return scene, waiting


def asked_again_and_dead() -> None:
    scene, _ = _asked_again()
    scene.die(1)
    scene.run()
    scene.rest()


def asked_again_and_cancelled() -> None:
    scene, waiting = _asked_again()
    scene.do("cancel", 1, 0)
    scene.run()
    scene.rest()
    assert waiting.over == "cancelled"


def cancelled_while_it_waits() -> None:
    scene = _hosted()
    scene.subscribe(3, kind=2, prefetch=1)
    scene.run()
    scene.request(1)
    scene.request(1)
    scene.run()
    scene.do("cancel", 1, 1)
    scene.run()
    scene.rest()


def answered_by_one_who_lost_it() -> None:
    """It goes on with it, and its reply is all that a new host hears of that."""
    scene = _hosted()
    sub = scene.subscribe(3, kind=2, prefetch=1)
    scene.run()
    scene.hold(3)
    waiting = scene.request(1)
    scene.run()
    scene.do("read", 3, 100)
    scene.do("cut", 3, 0, 0)
    scene.run()
    scene.do("time", _LAGGING)
    scene.run()  # it is taken back
    scene.do("read", 3, 100)
    scene.do("advance", 3)
    scene.do("hear", 3, 0, 100)
    scene.do("read", 3, 100)  # it is lost
    scene.do("hear", 3, 0, 100)  # and handed out again
    scene.do("cut", 3, 0, 0)
    scene.subscribe(4, kind=2)
    scene.run()
    scene.finish(sub)
    scene.do("flush", 3)
    scene.die(0)
    scene.run()
    scene.rest()
    assert waiting.over == "replied"


def asked_of_one_member_before_the_first_connection() -> None:
    """Who is asked is known from elsewhere."""
    scene = Scene(3)
    first = scene[1].request("a.x", scene[2].id)
    scene.subscribe(2, kind=2)
    scene.hosted_by(0)
    scene.do("join")
    second = scene[3].request("a.x", scene[2].id)
    scene.rest()
    assert first.over == "replied"
    assert second.over == "replied"


RARE: tuple[tuple[Callable[..., None], tuple[int, ...]], ...] = (
    (returning_and_dead, ()),
    (returning_and_lagging, ()),
    (returning_and_lagging_with_more_to_come, ()),
    (returning_lagging_and_dead, ()),
    (returning_and_late, ()),
    (returning_lagging_and_late, ()),
    (opening_and_dead, ()),
    (opening_and_lagging, ()),
    (opening_lagging_and_dead, ()),
    (an_old_hello_is_refused, ()),
    (the_directory_is_deleted, ()),
    (the_directory_is_deleted_and_the_next_host_dies, ()),
    (the_directory_is_deleted_before_the_roster_is_read, ()),
    *((reported_while_it_waits, (kind,)) for kind in (2, 3)),
    *((reported_while_it_is_on_its_way, (kind,)) for kind in (2, 3)),
    *((reported_while_another_has_it, (kind,)) for kind in (2, 3)),
    (a_responder_dies_before_it_reads, ()),
    (asked_again_and_dead, ()),
    (asked_again_and_cancelled, ()),
    (cancelled_while_it_waits, ()),
    (answered_by_one_who_lost_it, ()),
    (asked_of_one_member_before_the_first_connection, ()),
)
"""(scene, its arguments)."""
