"""Every input that has ever found a bug: what was refused with the wrong error, or did harm."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from open_channel.bus.core import records as r
from tests.fuzz.brokers import HOSTILE, Bench
from tests.fuzz.engine import play
from tests.fuzz.targets import make

CASES = sorted(Path(__file__).with_name("corpus").glob("*.txt"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_it_holds(path: Path):
    target, _, _ = path.stem.partition("-")
    steps = ast.literal_eval(path.read_text(encoding="utf-8"))
    failure = play(make(target), steps)
    assert failure is None, failure.error


def test_many_who_give_up_waiting_take_no_longer_for_it_each():
    """A queue that was searched for each took minutes for these."""
    count = 30_000
    bench = Bench(Counter(), expects=False, merges=False)
    me = HOSTILE[0]
    info = r.MemberInfo(me, 8, {})
    bench.say(0, r.encode_control(r.Snapshot(info, [], [], [], {}, [])))
    bench.say(0, r.encode_control(r.Subscribe(1, "own", serves=True, prefetch=0)))
    for number in range(1, count + 1):
        request = r.encode_publication(r.PUBLISH, 4, b"own", number, me, r.NOBODY, [b"?"])
        bench.say(0, bytes(request))
    assert len(bench.broker.routing.jobs._open) == count
    for number in range(count, 0, -1):
        bench.say(0, r.encode_control(r.Cancel(number)))
    assert not bench.refused
    assert not bench.broker.routing.jobs._open
    bench.end()
