"""What users give is checked where they give it."""

from __future__ import annotations

import enum
import math

import pytest

from open_channel.arguments import MOST, check_count, check_labels, check_text, check_timeout


class Size(enum.IntEnum):
    SMALL = 3


@pytest.mark.parametrize("count", [2, MOST, Size.SMALL])
def test_a_count_within_its_bounds(count):
    assert check_count("size", count, 2) == count


@pytest.mark.parametrize("count", [1.0, True, "3", None])
def test_what_is_no_count(count):
    with pytest.raises(TypeError, match="size is an int"):
        check_count("size", count)


@pytest.mark.parametrize("count", [-1, 1, MOST + 1, 10**30])
def test_a_count_out_of_bounds(count):
    with pytest.raises(ValueError, match="size"):
        check_count("size", count, 2)


def test_timeouts():
    for timeout in (None, 0, 0.5, math.inf):
        check_timeout(timeout)
    for timeout in (-1, -0.001, -math.inf, math.nan):
        with pytest.raises(ValueError, match="timeout"):
            check_timeout(timeout)


def test_texts():
    assert check_text("group", "ü") == b"\xc3\xbc"
    for text in (5, b"x", None):
        with pytest.raises(TypeError, match="group is a str"):
            check_text("group", text)
    with pytest.raises(ValueError, match="group cannot be written as UTF-8"):
        check_text("group", "caf\udce9")


def test_labels_are_copied():
    labels = {"role": "x" * 8188}
    found = check_labels(labels)
    assert found == labels
    assert found is not labels


@pytest.mark.parametrize("labels", [5, "ab", ["ab"], {1: "a"}, {"a": 1}, {"a": None}])
def test_labels_that_are_no_texts(labels):
    with pytest.raises(TypeError, match="label"):
        check_labels(labels)


@pytest.mark.parametrize("labels", [{"host": "caf\udce9"}, {"\ud800": ""}, {"role": "x" * 8189}])
def test_labels_that_nobody_can_be_told(labels):
    with pytest.raises(ValueError, match="label"):
        check_labels(labels)
