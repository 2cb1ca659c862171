"""How the demonstration judges what comes back: nothing wrong may be counted as right."""

from __future__ import annotations

from open_channel.cli.demo.sockets.tally import Tally

FIRST, SECOND, THIRD = (11, 1), (12, 1), (13, 1)


def counts(tally: Tally) -> dict[str, int]:
    names = ("received", "redelivered", "unmarked", "misordered")
    return {name: getattr(tally, name) for name in names if getattr(tally, name)}


def hear(tally: Tally, conversation: tuple[int, int], *numbers: int, marked: bool = False) -> None:
    for number in numbers:
        tally.hear(conversation, number, marked=marked)


def test_all_in_order():
    tally = Tally(sent=3)
    assert tally.hear(FIRST, 0, marked=False)
    assert not tally.hear(FIRST, 1, marked=False)
    assert not tally.complete
    hear(tally, FIRST, 2)
    assert tally.complete
    assert counts(tally) == {"received": 3}


def test_a_takeover_begins_again():
    tally = Tally(sent=5)
    hear(tally, FIRST, 0, 1, 2)
    hear(tally, SECOND, 1, 2, marked=True)
    hear(tally, SECOND, 3, 4)
    assert tally.complete
    assert counts(tally) == {"received": 5, "redelivered": 2}


def test_what_comes_again_without_a_mark():
    tally = Tally(sent=2)
    hear(tally, FIRST, 0, 1)
    hear(tally, SECOND, 1)
    assert counts(tally) == {"received": 2, "redelivered": 1, "unmarked": 1}


def test_a_gap():
    tally = Tally(sent=4)
    hear(tally, FIRST, 0, 2, 3)
    assert not tally.complete
    assert counts(tally) == {"received": 3, "misordered": 1}


def test_a_gap_at_a_takeover():
    tally = Tally(sent=4)
    hear(tally, FIRST, 0)
    hear(tally, SECOND, 2, 3)
    assert counts(tally) == {"received": 3, "misordered": 1}


def test_a_gap_that_fills_later():
    tally = Tally(sent=4)
    hear(tally, FIRST, 0, 2, 1, 3)
    assert tally.complete
    assert counts(tally) == {"received": 4, "misordered": 3}


def test_twice_in_one_conversation():
    tally = Tally(sent=2)
    hear(tally, FIRST, 0, 0, 1)
    assert tally.complete
    assert counts(tally) == {"received": 2, "redelivered": 1, "unmarked": 1, "misordered": 1}


def test_an_old_host_that_comes_back():
    tally = Tally(sent=5)
    hear(tally, FIRST, 0, 1)
    hear(tally, SECOND, 2)
    hear(tally, FIRST, 3)
    hear(tally, THIRD, 4)
    assert tally.complete
    assert counts(tally) == {"received": 5, "misordered": 1}


def test_the_first_number_is_zero():
    tally = Tally(sent=2)
    hear(tally, FIRST, 1)
    assert counts(tally) == {"received": 1, "misordered": 1}
