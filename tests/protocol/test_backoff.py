"""Backoff: quick at first, growing by half to a cap, spread by chance, begun anew after success."""

from __future__ import annotations

import pytest

from open_channel.protocol.backoff import Backoff

EVEN = 0.5  # the chance that changes nothing


def test_the_first_delay_is_a_fraction_of_a_millisecond():
    assert Backoff().next(EVEN) == pytest.approx(0.0002)


def test_delays_grow_by_half_up_to_the_cap():
    backoff = Backoff(first=1.0, cap=3.0)
    assert [backoff.next(EVEN) for _ in range(5)] == [1.0, 1.5, 2.25, 3.0, 3.0]


def test_the_default_cap_is_a_tenth_of_a_second():
    backoff = Backoff()
    assert max(backoff.next(EVEN) for _ in range(100)) == pytest.approx(0.1)


@pytest.mark.parametrize(("chance", "delay"), [(0.0, 0.5), (0.25, 0.75), (1.0, 1.5)])
def test_chance_spreads_a_delay_by_half(chance, delay):
    assert Backoff(first=1.0, cap=1.0).next(chance) == pytest.approx(delay)


def test_after_a_reset_it_begins_anew():
    backoff = Backoff(first=1.0, cap=8.0)
    for _ in range(3):
        backoff.next(EVEN)
    backoff.reset()
    assert [backoff.next(EVEN) for _ in range(2)] == [1.0, 1.5]
