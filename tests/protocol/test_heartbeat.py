"""Heartbeat: which silence is a busy host's, which a hung one's, and which was our own."""

from __future__ import annotations

import pytest

from open_channel.protocol.heartbeat import Verdict, Watchdog

INTERVAL, TIMEOUT = 1.0, 3.0
GRACE = 1.1 * INTERVAL  # from a sign of life to the next check
BEGIN = 100.0


class Watched:
    """A watchdog, what it hears and the pulse it can see; time passes when it is told to."""

    def __init__(self) -> None:
        self.watchdog = Watchdog(INTERVAL, TIMEOUT, BEGIN)
        self.heard = 0
        self.pulse: int | None = 0
        self.looks = 0

    def look(self) -> int | None:
        self.looks += 1
        return self.pulse

    def check(self, *, late: float = 0.0) -> Verdict:
        now = self.watchdog.deadline + late
        return self.watchdog.check(now, self.heard, self.look)

    def hear(self) -> Verdict:
        self.heard += 1
        return self.check()

    def heartbeat(self, now: float) -> Verdict:
        """A heartbeat comes: a check before the deadline."""
        self.heard += 1
        return self.watchdog.check(now, self.heard, self.look)

    def beat(self) -> Verdict:
        assert self.pulse is not None
        self.pulse += 1
        return self.check()


@pytest.fixture
def watched() -> Watched:
    """A watchdog that has heard its host just now."""
    watched = Watched()
    assert watched.hear() is Verdict.WELL
    return watched


def test_the_first_check_is_due_after_an_interval_and_some():
    assert Watchdog(INTERVAL, TIMEOUT, BEGIN).deadline == BEGIN + GRACE


def test_the_first_look_at_the_pulse_comes_before_the_timeout():
    """However near the two are: else a host that is busy would be taken for hung."""
    watchdog = Watchdog(2.9, 3.0, BEGIN)
    assert BEGIN + 2.9 < watchdog.deadline < BEGIN + 3.0


def test_each_check_sets_the_next(watched):
    watched.heartbeat(BEGIN + 1.75)
    assert watched.watchdog.deadline == BEGIN + 1.75 + GRACE
    watched.watchdog.check(BEGIN + 2.5, watched.heard, watched.look)
    assert watched.watchdog.deadline == BEGIN + 2.5 + INTERVAL


def test_heartbeats_put_the_check_off():
    """So the timer of a member that idles never fires."""
    watched = Watched()
    for beats in range(1, 100):
        now = BEGIN + beats * INTERVAL
        assert now < watched.watchdog.deadline
        assert watched.heartbeat(now) is Verdict.WELL
    assert watched.looks == 0


def test_a_host_that_hangs_is_noticed_in_a_timeout_and_a_heartbeat():
    watched = Watched()
    watched.heartbeat(BEGIN)
    while watched.check() is not Verdict.HUNG:
        pass
    # check() has set the next deadline already.
    assert TIMEOUT <= watched.watchdog.deadline - INTERVAL - BEGIN <= TIMEOUT + INTERVAL


def test_a_host_that_is_heard_is_well_and_its_pulse_is_not_looked_at(watched):
    assert [watched.hear() for _ in range(10)] == [Verdict.WELL] * 10
    assert watched.looks == 0
    assert watched.watchdog.since == pytest.approx(BEGIN + 11 * GRACE)


def test_a_silent_host_without_a_pulse_is_hung_after_the_timeout(watched):
    assert [watched.check() for _ in range(3)] == [Verdict.SILENT, Verdict.SILENT, Verdict.HUNG]
    assert watched.watchdog.since == BEGIN + GRACE  # when it was heard last


def test_a_host_whose_pulse_cannot_be_seen_is_hung_after_the_timeout(watched):
    watched.pulse = None
    assert [watched.check() for _ in range(3)] == [Verdict.SILENT, Verdict.SILENT, Verdict.HUNG]


def test_a_silent_host_whose_pulse_moves_is_busy_for_ever(watched):
    assert watched.check() is Verdict.SILENT  # there is no earlier pulse to compare with
    assert [watched.beat() for _ in range(20)] == [Verdict.BUSY] * 20


def test_a_pulse_that_stops_is_hung_a_timeout_later(watched):
    watched.check()
    watched.beat()
    assert [watched.check() for _ in range(3)] == [Verdict.SILENT, Verdict.SILENT, Verdict.HUNG]


def test_a_pulse_that_moves_only_now_and_then_keeps_it_busy(watched):
    watched.check()
    for _ in range(5):
        assert watched.check() is Verdict.SILENT
        assert watched.beat() is Verdict.BUSY


def test_a_word_ends_the_suspicion(watched):
    watched.check()
    watched.check()
    assert watched.hear() is Verdict.WELL
    assert watched.check() is Verdict.SILENT


def test_a_pulse_seen_before_the_host_spoke_is_no_pulse_of_a_later_silence(watched):
    watched.check()
    watched.hear()
    watched.pulse = 7
    assert watched.check() is Verdict.SILENT


def test_a_check_that_comes_late_begins_anew(watched):
    watched.check()
    watched.check()
    assert watched.check(late=INTERVAL) is Verdict.WELL
    assert [watched.check() for _ in range(3)] == [Verdict.SILENT, Verdict.SILENT, Verdict.HUNG]


def test_a_member_that_was_stopped_for_an_hour_does_not_suspect_its_host(watched):
    assert watched.check(late=3600.0) is Verdict.WELL


def test_a_little_late_is_not_late(watched):
    watched.check()
    watched.check()
    assert watched.check(late=INTERVAL / 2) is Verdict.HUNG


def test_a_host_never_heard_is_hung_in_bounded_time():
    watched = Watched()
    verdicts = [watched.check() for _ in range(5)]
    assert Verdict.HUNG in verdicts
    assert Verdict.BUSY not in verdicts
