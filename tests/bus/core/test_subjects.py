"""Topics, patterns, and the index, against a reference that is too simple to be wrong."""

from __future__ import annotations

import pickle
import time
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_channel.bus.core import subjects
from open_channel.bus.core.subjects import (
    Matcher,
    check_pattern,
    check_topic,
    matches,
    matches_each,
)
from open_channel.errors import TopicInvalid

LONGEST = "ü" * 512
TOPICS = ["a", "a.b", "orders.eu.7", "a*", "a.b>", "*a", "雪.ü", "$x.-_/", LONGEST, "a" * 1024]
PATTERNS = ["*", ">", "a.*", "*.a", "a.>", "*.>", "*.*", "a.*.b.>"]
NEVER = [
    ("", "empty"),
    (".", "empty token"),
    ("a..b", "empty token"),
    (".a", "empty token"),
    ("a.", "empty token"),
    ("a b", "whitespace"),
    ("a\t", "whitespace"),
    ("a\nb", "whitespace"),
    ("a\x00", "control"),
    ("a\x7f", "control"),
    ("a\x9b", "control"),
    ("a\u2003b", "whitespace"),
    ("\ud800", "UTF-8"),
    (LONGEST + "a", "1025 bytes"),
    ("a" * 1025, "1025 bytes"),
    (b"a", "a bytes, not a str"),
    (None, "NoneType"),
    (7, "int"),
]


@pytest.mark.parametrize("topic", TOPICS)
def test_topics(topic: str):
    assert check_topic(topic) is topic
    assert check_pattern(topic) is topic
    assert matches(topic, topic)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_no_topics(pattern: str):
    assert check_pattern(pattern) is pattern
    with pytest.raises(TopicInvalid, match="wildcard"):
        check_topic(pattern)


@pytest.mark.parametrize("check", [check_topic, check_pattern])
@pytest.mark.parametrize(("topic", "reason"), NEVER)
def test_what_is_neither(check, topic, reason):
    with pytest.raises(TopicInvalid, match=reason) as caught:
        check(topic)
    assert caught.value.topic == topic
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.topic, again.reason) == (topic, caught.value.reason)


@pytest.mark.parametrize("pattern", [">.a", "a.>.b", ">.>", "*.>.*"])
def test_the_rest_comes_last(pattern: str):
    with pytest.raises(TopicInvalid, match="last"):
        check_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("a.b", ["a.b"], ["a", "a.c", "a.b.c", "A.b"]),
        ("a.*", ["a.b", "a.c"], ["a", "a.b.c", "b.b"]),
        ("*", ["a", "b"], ["a.b"]),
        ("*.b", ["a.b"], ["b", "a.a.b"]),
        ("a.>", ["a.b", "a.b.c"], ["a", "b.a"]),
        (">", ["a", "a.b.c"], []),
        ("*.>", ["a.b", "a.b.c"], ["a"]),
        ("a.*.>", ["a.b.c"], ["a.b", "b.b.c"]),
        ("a*", ["a*"], ["ab"]),
    ],
)
def test_what_fits(pattern: str, fits: list[str], fits_not: list[str]):
    assert [topic for topic in fits + fits_not if matches(pattern, topic)] == fits
    matcher: Matcher[int] = Matcher()
    matcher.add(pattern, 1)
    assert [topic for topic in fits + fits_not if matcher.match(topic)] == fits
    assert matches_each(pattern, fits + fits_not) == [True] * len(fits) + [False] * len(fits_not)


# --- the index ------------------------------------------------------------------------------------


def reference(pattern: list[str], topic: list[str]) -> bool:
    """The definition, read aloud."""
    if not pattern or not topic:
        return pattern == topic
    if pattern == [">"]:
        return True
    return pattern[0] in ("*", topic[0]) and reference(pattern[1:], topic[1:])


tokens = st.sampled_from(["a", "b", "c"])
topics = st.lists(tokens, min_size=1, max_size=4).map(".".join)
wild = st.lists(tokens | st.just("*"), max_size=4)
patterns = st.tuples(wild, st.booleans()).map(
    lambda parts: ".".join(parts[0] + ([">"] if parts[1] or not parts[0] else []))
)
steps = st.lists(
    st.tuples(st.sampled_from(["add", "remove"]), patterns, st.integers(0, 3))
    | st.tuples(st.just("match"), topics, st.none()),
    max_size=40,
)
ALL = [".".join(some) for length in (1, 2, 3) for some in product("abc", repeat=length)]


@given(patterns, topics)
def test_matches_is_the_definition(pattern: str, topic: str):
    assert check_pattern(pattern)
    assert check_topic(topic)
    assert matches(pattern, topic) == reference(pattern.split("."), topic.split("."))


@given(steps)
def test_the_index_is_a_list_that_is_searched(script):
    matcher: Matcher[int] = Matcher()
    entries: list[tuple[str, int]] = []

    def expected(topic: str) -> tuple[int, ...]:
        return tuple(
            value for pattern, value in entries if reference(pattern.split("."), topic.split("."))
        )

    for step, text, value in script:
        if step == "match":
            assert matcher.match(text) == expected(text)
        elif step == "add":
            matcher.add(text, value)
            if (text, value) not in entries:
                entries.append((text, value))
        else:
            matcher.remove(text, value)
            if (text, value) in entries:
                entries.remove((text, value))
    for topic in ALL:
        assert matcher.match(topic) == expected(topic)
        assert matcher.match(topic) == expected(topic)  # from the cache
        assert matcher.match_all([topic, "none", topic]) == [
            expected(topic),
            expected("none"),
            expected(topic),
        ]
    for pattern, value in entries:
        matcher.remove(pattern, value)
    assert is_empty(matcher)


def is_empty(matcher: Matcher[int]) -> bool:
    root = matcher._root
    return not (matcher._literal or root.next or root.any or root.ends or root.rest)


def test_each_pattern_counts_once_in_the_order_of_adding():
    matcher: Matcher[str] = Matcher()
    for pattern, value in [(">", "x"), ("a.b", "y"), ("a.*", "x"), ("a.b", "y"), ("*.b", "z")]:
        matcher.add(pattern, value)
    assert matcher.match("a.b") == ("x", "y", "x", "z")
    matcher.remove("a.*", "x")
    assert matcher.match("a.b") == ("x", "y", "z")


def test_what_is_not_there_is_removed_without_harm():
    matcher: Matcher[int] = Matcher()
    matcher.add("a.*", 1)
    matcher.add("a.b.*", 1)
    matcher.add("x", 1)
    for pattern in ("a", "x", "*", ">", "a.>", "a.*", "b.*.c", "a.b.c.*"):
        matcher.remove(pattern, 2)
    assert [matcher.match(topic) for topic in ("a.b", "a.b.c", "x", "y")] == [(1,)] * 3 + [()]


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subjects, "_CACHED_TOPICS", 10)
    matcher: Matcher[int] = Matcher()
    matcher.add("*", 1)
    for number in range(35):
        assert matcher.match(f"{number}") == (1,)
        assert len(matcher._cache) <= 10
    matcher.add("5", 2)
    assert matcher.match("5") == (1, 2)
    matcher.add(">", 3)
    assert matcher._cache == {}
    assert matcher.match("5") == (1, 2, 3)


def searching(matcher: Matcher[int]) -> float:
    """Seconds that a search of a topic takes, the best of some tries."""
    best = 1.0
    for _ in range(50):
        began = time.perf_counter()
        for _ in range(20):
            matcher._search("orders.eu.7")
        best = min(best, time.perf_counter() - began)
    return best


def test_literal_patterns_cost_nothing_for_other_topics():
    few: Matcher[int] = Matcher()
    few.add("orders.*.7", 1)
    many: Matcher[int] = Matcher()
    many.add("orders.*.7", 1)
    for number in range(10_000):
        many.add(f"orders.eu.{number + 100}", number)
    assert many.match("orders.eu.7") == (1,)
    assert searching(many) < 5 * searching(few)
