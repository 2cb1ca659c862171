"""Election: what is done after each look at the lock file."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from open_channel.protocol.election import (
    Action,
    Depose,
    Dial,
    Election,
    Host,
    LockState,
    View,
    Wait,
)
from open_channel.protocol.records import HostRecord

TIMEOUT = 3.0
EVEN = 0.5
FILE, OTHER_FILE = (1, 100), (1, 200)
BUSY, WON, BARRED = LockState.BUSY, LockState.WON, LockState.BARRED


def record(hosting: int = 11, epoch: int = 4) -> HostRecord:
    return HostRecord("chat", "listener", hosting, epoch, f"socket.{hosting}", 4711, "ff", 0.0)


FIRST, SECOND = record(), record(22, 5)
NONE = View(BUSY, None, None, None)
UNPUBLISHED = View(BUSY, FILE, None, 1)
HOSTED = View(BUSY, FILE, FIRST, 1)
BARRED_HOSTED = View(BARRED, FILE, FIRST, 1)


class Candidate:
    """One who looks, on its own clock."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self.election = Election(timeout)
        self.now = 1000.0

    def look(self, view: View, *, after: float = 0.1) -> Action:
        self.now += after
        return self.election.decide(view, self.now, EVEN)

    def look_for(self, seconds: float, view: View) -> list[Action]:
        """Look again and again, without a break that is too long."""
        return [self.look(view) for _ in range(round(seconds / 0.1))]


@pytest.fixture
def candidate() -> Candidate:
    return Candidate()


# --- the decisions --------------------------------------------------------------------------------


class Case(NamedTuple):
    """One look by one who has not looked before."""

    view: View
    action: type
    facts: dict[str, object]


CASES = {
    "the lock was free and never held": Case(View(WON, FILE, None, None), Host, {"epoch": 1}),
    "the lock was free, its last host left a record": Case(
        View(WON, FILE, FIRST, 9), Host, {"epoch": 5}
    ),
    "nobody hosts, and we do not": Case(
        View(BARRED, None, None, None), Wait, {"reason": "nobody hosts it"}
    ),
    "the file went away": Case(NONE, Wait, {"reason": "nobody hosts it"}),
    "somebody is just starting": Case(
        UNPUBLISHED, Wait, {"reason": "its host has not published yet"}
    ),
    "there is a host": Case(HOSTED, Dial, {"record": FIRST}),
    "there is a host, and we do not host": Case(BARRED_HOSTED, Dial, {"record": FIRST}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_first_look(candidate, case):
    action = candidate.look(case.view)
    assert type(action) is case.action
    assert {name: getattr(action, name) for name in case.facts} == case.facts


def test_a_host_that_was_not_reached_is_dialled_again_after_a_wait(candidate):
    assert candidate.look(HOSTED) == Dial(FIRST)
    candidate.election.failed(FIRST)
    waiting = candidate.look(HOSTED)
    assert isinstance(waiting, Wait)
    assert waiting.delay == pytest.approx(0.0002)
    assert waiting.reason == "its last host, pid 4711, did not answer"
    assert candidate.look(HOSTED) == Dial(FIRST)


def test_its_successor_is_dialled_at_once(candidate):
    candidate.election.failed(FIRST)
    assert candidate.look(View(BUSY, FILE, SECOND, 1)) == Dial(SECOND)


def test_a_dead_hosts_lock_is_taken_even_after_a_failure(candidate):
    candidate.election.failed(FIRST)
    assert candidate.look(View(WON, FILE, FIRST, 1)) == Host(5)


# --- waiting --------------------------------------------------------------------------------------


def delays(candidate: Candidate, count: int) -> list[float]:
    actions = [candidate.look(NONE) for _ in range(count)]
    return [action.delay for action in actions if isinstance(action, Wait)]


def test_waits_grow_by_half_up_to_a_tenth_of_a_second(candidate):
    waits = delays(candidate, 20)
    assert waits[:4] == pytest.approx([0.0002, 0.0003, 0.00045, 0.000675])
    assert waits[-1] == pytest.approx(0.1)


def test_chance_spreads_a_wait():
    spread = [Election(TIMEOUT).decide(NONE, 1000.0, chance) for chance in (0.0, 1.0)]
    assert [w.delay for w in spread if isinstance(w, Wait)] == pytest.approx([0.0001, 0.0003])


@pytest.mark.parametrize("news", [UNPUBLISHED, HOSTED])
def test_news_makes_the_next_wait_a_short_one(candidate, news):
    delays(candidate, 10)
    candidate.look(news)
    assert delays(candidate, 1) == pytest.approx([0.0002])


def test_a_connection_that_lived_makes_the_next_wait_a_short_one(candidate):
    delays(candidate, 10)
    candidate.election.connected()
    candidate.election.lost(FIRST, lived=10.0)
    assert delays(candidate, 1) == pytest.approx([0.0002])


def test_a_host_whose_connection_lived_is_dialled_again_at_once(candidate):
    candidate.look(HOSTED)
    candidate.election.connected()
    candidate.election.lost(FIRST, lived=10.0)
    assert candidate.look(HOSTED) == Dial(FIRST)


def test_a_host_that_drops_every_connection_is_dialled_with_growing_delays(candidate):
    waits = []
    for _ in range(20):
        assert candidate.look(HOSTED) == Dial(FIRST)
        candidate.election.connected()
        candidate.election.lost(FIRST, lived=0.01)
        waits.append(candidate.look(HOSTED))
    delays = [wait.delay for wait in waits if isinstance(wait, Wait)]
    assert len(delays) == 20
    assert delays[:3] == pytest.approx([0.0002, 0.0003, 0.00045])
    assert delays[-1] == pytest.approx(0.1)


# --- a host that shows no sign of life ------------------------------------------------------------


def deposed(actions: list[Action]) -> bool:
    return any(isinstance(action, Depose) for action in actions)


@pytest.mark.parametrize(
    ("view", "epoch"), [(HOSTED, 5), (UNPUBLISHED, 1)], ids=["host", "unpublished"]
)
def test_no_pulse_for_the_whole_timeout_deposes(candidate, view, epoch):
    candidate.look(view)
    assert not deposed(candidate.look_for(TIMEOUT - 0.1, view))
    assert deposed(candidate.look_for(0.2, view))
    assert candidate.look(view) == Depose(FILE, epoch)


def test_a_hung_host_is_deposed_at_once(candidate):
    candidate.election.hung(FIRST.hosting)
    assert candidate.look(HOSTED) == Depose(FILE, 5)


def test_a_hung_hosts_successor_is_dialled(candidate):
    candidate.election.hung(FIRST.hosting)
    assert candidate.look(View(BUSY, OTHER_FILE, SECOND, 1)) == Dial(SECOND)


def test_a_host_that_welcomed_us_after_all_is_not_deposed(candidate):
    candidate.election.hung(FIRST.hosting)
    candidate.election.connected()
    assert candidate.look(HOSTED) == Dial(FIRST)


def test_a_welcome_ends_the_suspicion(candidate):
    candidate.look_for(TIMEOUT - 0.2, HOSTED)
    candidate.election.connected()
    assert not deposed(candidate.look_for(TIMEOUT - 0.2, HOSTED))


def test_a_pulse_keeps_a_host_that_does_not_answer(candidate):
    for pulse in range(20):
        assert not deposed(candidate.look_for(TIMEOUT / 2, View(BUSY, FILE, FIRST, pulse)))


@pytest.mark.parametrize(
    "changed",
    [
        View(BUSY, OTHER_FILE, FIRST, 1),
        View(BUSY, FILE, SECOND, 1),
        View(BUSY, FILE, None, 1),
        View(BUSY, FILE, FIRST, 2),
        View(BUSY, FILE, FIRST, None),
    ],
    ids=["another file", "another host", "no record", "another pulse", "no pulse to be seen"],
)
def test_whatever_changes_resets_the_suspicion(candidate, changed):
    candidate.look_for(TIMEOUT - 0.2, HOSTED)
    assert not deposed(candidate.look_for(TIMEOUT - 0.2, changed))
    assert deposed(candidate.look_for(0.5, changed))


def test_one_who_was_away_itself_begins_anew(candidate):
    candidate.look_for(TIMEOUT - 0.2, HOSTED)
    assert not isinstance(candidate.look(HOSTED, after=3600.0), Depose)
    assert not deposed(candidate.look_for(TIMEOUT - 0.2, HOSTED))
    assert deposed(candidate.look_for(0.5, HOSTED))


def test_where_there_is_no_file_nobody_is_deposed(candidate):
    assert not deposed(candidate.look_for(3 * TIMEOUT, NONE))


def test_one_who_does_not_host_never_deposes(candidate):
    candidate.election.hung(FIRST.hosting)
    assert not deposed(candidate.look_for(3 * TIMEOUT, BARRED_HOSTED))


def test_a_free_lock_is_hosted_however_long_its_holder_was_suspect(candidate):
    candidate.look_for(TIMEOUT * 2, HOSTED)
    assert candidate.look(View(WON, FILE, FIRST, 1)) == Host(5)


@pytest.mark.parametrize("timeout", [0.05, 0.1, 0.2])
def test_its_own_waits_are_no_absence_however_short_the_timeout(timeout):
    """A candidate that only waits as long as it was told must come to a decision."""
    election = Election(timeout)
    now, chance = 1000.0, 1.0
    for _ in range(200):
        action = election.decide(UNPUBLISHED, now, chance)
        if isinstance(action, Depose):
            return
        assert isinstance(action, Wait)
        now += action.delay
    pytest.fail("never deposed")
