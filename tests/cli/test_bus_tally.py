"""How a subscriber of the demonstration judges what arrives: nothing wrong may count as right."""

from __future__ import annotations

from open_channel.cli.demo.bus.tally import Tally


def counts(*batches: tuple[bytes, list[int]]) -> tuple[int, int, int]:
    tally = Tally()
    for publisher, numbers in batches:
        tally.take(publisher, numbers)
    return tally.delivered, tally.duplicated, tally.misordered


def test_in_order():
    assert counts((b"a", [0, 1]), (b"b", [0]), (b"a", [2]), (b"b", [1])) == (5, 0, 0)


def test_a_gap_is_not_delivered():
    assert counts((b"a", [0, 2])) == (2, 0, 0)


def test_the_first_number_is_zero():
    assert counts((b"a", [1, 2])) == (2, 0, 0)


def test_what_comes_again():
    assert counts((b"a", [0, 1]), (b"a", [1, 2]), (b"a", [0])) == (3, 2, 0)


def test_what_comes_late():
    assert counts((b"a", [0, 2]), (b"a", [1, 3])) == (4, 0, 1)


def test_what_comes_late_and_again():
    assert counts((b"a", [2, 0, 0, 1])) == (3, 1, 2)
