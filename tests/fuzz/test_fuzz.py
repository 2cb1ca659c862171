"""A short run of each target, and proof that a run can fail.

``make fuzz`` runs them for longer. The seed is always the same here: what these cases find is a
matter of the code alone.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from open_channel.bus.core import records as r
from open_channel.bus.core import vetting
from open_channel.bus.core.groups import Group
from open_channel.bus.core.jobs import Jobs
from open_channel.errors import RemoteProtocolError
from open_channel.io.guest import Guest
from open_channel.protocol import batches
from tests.fuzz import decoders
from tests.fuzz.chance import Chance
from tests.fuzz.engine import Step, fuzz, play, shorten
from tests.fuzz.real import fuzz_real
from tests.fuzz.targets import TARGETS, make

TOOL = Path(__file__).parent.parent.parent / "tools" / "fuzz.py"
INPUTS = 4000


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run(name: str):
    result = fuzz(make(name), 1, inputs=INPUTS)
    assert result.failure is None, result.failure.error
    assert result.inputs >= INPUTS
    # Neither is all refused, nor is nothing.
    assert result.refused.total() > INPUTS / 100
    assert len(result.refused) >= (1 if name == "files" else 3)


@pytest.mark.parametrize("name", TARGETS)
def test_the_same_seed_makes_the_same_cases(name: str):
    cases = [[make(name).steps(Chance(f"{seed}")) for seed in (1, 1, 2)] for _ in range(2)]
    assert cases[0] == cases[1]
    first, again, other = cases[0]
    assert first == again
    assert first != other


@pytest.mark.timeout(150)
def test_members_of_a_real_host_do_not_notice():
    result = fuzz_real(1, inputs=3000)
    assert result.failure is None, result.failure.error
    assert result.refused["ended"] > 10


# --- a run can fail -------------------------------------------------------------------------------


class Dividing:
    """A target with a bug that two steps of many are needed for."""

    name = "dividing"

    def steps(self, chance: Chance) -> list[Step]:
        return [("by", chance.blob()) for _ in range(50)]

    def play(self, steps: list[Step], refused: Counter[str]) -> int:
        seen: list[int] = []
        for _, data in steps:
            if not data:
                refused["empty"] += 1
                continue
            seen.append(data[0])
            if len(seen) > 1 and data[0] == 7:
                raise ZeroDivisionError
        return len(steps)


def test_a_bug_is_found_and_made_short():
    result = fuzz(Dividing(), 1, inputs=1_000_000)
    assert result.failure is not None
    assert "ZeroDivisionError" in result.failure.where
    short = shorten(Dividing(), result.failure)
    assert len(short.steps) == 2
    assert short.steps[1][1] == b"\7"
    assert play(Dividing(), short.steps) is not None
    assert play(Dividing(), short.steps[:1]) is None


def test_a_case_without_end_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.fuzz.engine.SLOW", 0.05)

    def play_on(steps: list[Step], refused: Counter[str]) -> int:
        while True:
            pass

    target = Dividing()
    monkeypatch.setattr(target, "play", play_on)
    failure = play(target, [("by", b"1")])
    assert failure is not None
    assert failure.where == "slow"


def loses_a_message(payload: memoryview | bytes, count: int) -> list[bytes]:
    return batches.unpack(payload, count)[: count if count < 5 else -1]


def nothing(*_: object) -> None:
    """What should be done here is not."""


def decodes_to_key_errors(record: bytes) -> r.Control:
    try:
        return DECODE_CONTROL(record)
    except RemoteProtocolError as error:
        raise KeyError(record) from error


DECODE_CONTROL = r.decode_control


@pytest.mark.parametrize(
    ("name", "place", "bug"),
    [
        ("batches", (decoders, "unpack"), loses_a_message),
        ("records", (r, "decode_control"), decodes_to_key_errors),
        ("members", (r, "decode_control"), decodes_to_key_errors),
        ("brokers", (r, "decode_control"), decodes_to_key_errors),
        ("hosts", (r, "decode_control"), decodes_to_key_errors),
        ("brokers", (vetting, "_vet_table"), nothing),
        ("brokers", (Group, "free"), nothing),
        ("brokers", (Jobs, "forget_reports"), nothing),
        ("hosts", (vetting, "_vet_table"), nothing),
        ("hosts", (Guest, "gone"), nothing),
    ],
)
def test_a_planted_bug_is_found(
    name: str, place: tuple[object, str], bug: object, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(*place, bug)
    assert fuzz(make(name), 1, inputs=INPUTS).failure is not None


def test_the_tool_shows_a_table(tmp_path: Path):
    command = [sys.executable, str(TOOL), "--target", "batches", "--inputs", "500", "--seed", "3"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[1].split()[:4] == ["batches", "3", "10", "500"]
    case = tmp_path / "case"
    case.write_text("[('batch', b'\\1\\0\\0\\0x', 1)]\n")
    again = [sys.executable, str(TOOL), "--target", "batches", "--replay", str(case)]
    ran = subprocess.run(again, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "it holds\n"), ran.stderr
