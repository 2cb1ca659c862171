"""What was published, in print: it may neither command a terminal nor break a line."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from open_channel.cli.bus.text import as_line, as_value, json_line, one_line


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", ""),
        ("text ünï", "text ünï"),
        ("ünï".encode(), "ünï"),
        (b"\xff\x00A", r"\xff\x00A"),
        (b"two\nlines\ta tab", "two\\nlines\ta tab"),
        ("\x1b[31m red \x9b", r"\x1b[31m red \x9b"),
        ({"a": [1, None, "ü\x1b", b"\xff"]}, r'{"a":[1,null,"ü\u001b",{"base64":"/w=="}]}'),
        (7, "7"),
        (float("nan"), '"nan"'),
    ],
)
def test_a_line_for_people(data: object, line: str):
    assert as_line(data) == line


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", ""),
        (b"text", "text"),
        (b"\xff", {"base64": "/w=="}),
        ({1: {b"k": (1, 2)}, "a\nb": 1.5}, {"1": {"k": [1, 2]}, "a\nb": 1.5}),
        (float("inf"), "inf"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
    ],
)
def test_a_value_for_json(data: object, value: object):
    assert as_value(data) == value
    assert json.loads(json_line(as_value(data))) == value


def test_json_is_one_line_of_ascii():
    line = json_line(["ü\n\x9b"])
    assert line.isascii()
    assert line.isprintable()


def test_what_is_nested_too_deeply():
    data: Any = []
    for _ in range(100_000):
        data = [data]
    assert as_value(data) == "(nested too deeply)"
    while data:  # one after the other: to free it at once would go as deep
        data = data[0]


def test_a_large_text_stays_whole():
    text = "a\n" * 500_000
    assert one_line(text) == "a\\n" * 500_000
