"""The check of what arrives in a benchmark: it must be able to say no."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import pytest

LARGE = 1 << 20
COUNT = 20


@pytest.fixture
def ledger(
    benchmark_module: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    return benchmark_module("peers.ledger")


def spoil(bodies: list[bytes], how: str) -> list[bytes]:
    match how:
        case "lost":
            return bodies[:7] + bodies[8:] + bodies[:1]
        case "doubled":
            return [*bodies[:7], bodies[6], *bodies[7:]]
        case "out of order":
            return [*bodies[:7], bodies[8], bodies[7], *bodies[9:]]
        case "shortened":
            return [*bodies[:7], bodies[7][:-1], *bodies[8:]]
        case _:
            return bodies


def one_at_a_time(ledger: ModuleType, bodies: list[bytes], size: int) -> None:
    ledger.take(iter([ledger.PROBE, ledger.MARK, *bodies]).__next__, COUNT, size)


def in_a_loop(ledger: ModuleType, bodies: list[bytes], size: int) -> None:
    coming = iter([ledger.PROBE, ledger.PROBE, ledger.MARK, *bodies])

    async def receive() -> Any:
        return next(coming)

    asyncio.run(ledger.take_async(receive, COUNT, size))


def by_a_callback(ledger: ModuleType, bodies: list[bytes], size: int) -> None:
    tally = ledger.Tally(COUNT, size)
    for body in [ledger.PROBE, ledger.MARK, *bodies]:
        tally.take(body)


def in_batches(ledger: ModuleType, bodies: list[bytes], size: int) -> None:
    tally = ledger.Tally(COUNT, size)
    assert not tally.begin(ledger.PROBE)
    assert tally.begin(ledger.MARK)
    for start in range(0, len(bodies), 6):
        if tally.extend(bodies[start : start + 6]):
            break


every_way = pytest.mark.parametrize(
    "receive", [one_at_a_time, in_a_loop, by_a_callback, in_batches], ids=lambda way: way.__name__
)
both_sizes = pytest.mark.parametrize("size", [64, LARGE])


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@every_way
@both_sizes
def test_all_messages_in_order_are_counted(
    ledger: ModuleType,
    capsys: pytest.CaptureFixture[str],
    receive: Callable[..., None],
    size: int,
):
    receive(ledger, list(ledger.bodies(size, COUNT)), size)
    live, ready, end = said(capsys)
    assert live == {"live": True}
    assert ready == {"ready": True}
    assert end["received"] == COUNT
    assert end["at"] > 0


@every_way
@both_sizes
@pytest.mark.parametrize("how", ["lost", "doubled", "out of order", "shortened"])
def test_anything_else_ends_the_measurement(
    ledger: ModuleType,
    capsys: pytest.CaptureFixture[str],
    receive: Callable[..., None],
    size: int,
    how: str,
):
    bodies = spoil(list(ledger.bodies(size, COUNT)), how)
    with pytest.raises(ledger.BenchmarkError):
        receive(ledger, bodies, size)
    assert not any("received" in words for words in said(capsys))


def test_a_page_of_a_large_body_that_is_not_there_is_noticed(ledger: ModuleType):
    body = ledger.ring(LARGE)[3]
    assert ledger.intact(memoryview(body), body)
    torn = bytearray(body)
    torn[5 * 4096 : 6 * 4096] = bytes(4096)
    # Not the value by chance: the byte that is looked at differs.
    assert body[5 * 4096] != 0
    assert not ledger.intact(torn, body)


def test_an_answer_to_another_question_is_an_error(ledger: ModuleType):
    with pytest.raises(ledger.BenchmarkError, match="was answered by"):
        ledger.ask(lambda: nullcontext(lambda body: body[:-1]), COUNT, 64, False)
