"""The engine: plays cases of a target until one fails, and makes that as short as it can be.

A *case* is a list of *steps*, made by chance from a seed and the case's number; a step is a name
and plain values, so a case can be printed, kept, and played again. Most steps are one *input*:
some bytes, a frame or a record that a hostile peer has said. A case fails when anything but
RemoteProtocolError comes out of it, when the target finds that something does not hold, or when
it takes too much of the processor's time.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.fuzz.chance import Chance

__all__ = ["Broken", "Failure", "Result", "Step", "Target", "fuzz", "play", "shorten"]

Step = tuple[Any, ...]

SLOW = 10.0  # seconds of processor time that no case may take; most take milliseconds
_ID = 16  # bytes of a member's id, which is nothing to be cut
_PATIENCE = 60.0  # seconds for which a failing case is played to make it shorter


class Broken(AssertionError):
    """Something that must hold does not."""


class Target(Protocol):
    """What is fuzzed."""

    name: str

    def steps(self, chance: Chance) -> list[Step]:
        """One case."""

    def play(self, steps: list[Step], refused: Counter[str]) -> int:
        """Play a case; count the reasons for which something was refused; return the inputs."""


@dataclass
class Failure:
    """A case that fails."""

    case: int
    steps: list[Step]
    error: str
    where: str
    """What tells this failure from others: the error's type and where it was raised."""


@dataclass
class Result:
    """What came of a run."""

    target: str
    seed: int
    cases: int = 0
    inputs: int = 0
    seconds: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    failure: Failure | None = None

    @property
    def rate(self) -> float:
        return self.inputs / self.seconds if self.seconds else 0.0


def fuzz(
    target: Target, seed: int, *, inputs: int = 0, seconds: float = 0.0, first: int = 0
) -> Result:
    """Play cases until there were so many inputs, or so much time has passed, or one fails."""
    result = Result(target.name, seed)
    began = time.monotonic()
    case = first
    while True:
        steps = target.steps(Chance(f"{target.name} {seed} {case}"))
        failure, played = _attempt(target, case, steps, result.refused)
        result.cases += 1
        result.inputs += played
        result.seconds = time.monotonic() - began
        if failure is not None:
            result.failure = failure
            return result
        if (inputs and result.inputs >= inputs) or (seconds and result.seconds >= seconds):
            return result
        case += 1


def play(target: Target, steps: list[Step]) -> Failure | None:
    """Play one case; what is wrong with it, if anything."""
    return _attempt(target, 0, steps, Counter())[0]


def _attempt(
    target: Target, case: int, steps: list[Step], refused: Counter[str]
) -> tuple[Failure | None, int]:
    before = signal.signal(signal.SIGVTALRM, _too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, SLOW)
    try:
        played = target.play(steps, refused)
    except (Exception, _Slow) as error:  # whatever it is: that is what is looked for
        text = "".join(traceback.format_exception(error, limit=-8))
        return Failure(case, steps, text, _where(error)), len(steps)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return None, played


class _Slow(BaseException):
    """Nothing that is fuzzed may catch it."""


def _too_slow(number: int, stack: object) -> None:
    raise _Slow


def _where(error: BaseException) -> str:
    if isinstance(error, _Slow):
        return "slow"
    frames = traceback.extract_tb(error.__traceback__)
    last = next((f for f in reversed(frames) if "open_channel" in f.filename), frames[-1])
    text = str(error) if isinstance(error, Broken) else ""
    return f"{type(error).__name__} in {last.name}: {text[:40]}"


# --- shorter --------------------------------------------------------------------------------------


def shorten(target: Target, failure: Failure) -> Failure:
    """The same failure with fewer steps, and fewer bytes in them."""
    best = failure
    until = time.monotonic() + _PATIENCE

    def fails(steps: list[Step]) -> bool:
        nonlocal best
        found = play(target, steps) if time.monotonic() < until else None
        if found is None or found.where != failure.where:
            return False
        best = Failure(failure.case, steps, found.error, found.where)
        return True

    size = len(best.steps) // 2
    while size:
        at = 0
        while at < len(best.steps):
            steps = best.steps[:at] + best.steps[at + size :]
            if not fails(steps):
                at += size
        size //= 2
    for at in range(len(best.steps)):
        for place, value in enumerate(best.steps[at]):
            if isinstance(value, bytes) and len(value) != _ID:
                _shorten_bytes(lambda: best.steps, at, place, fails)
    return best


def _shorten_bytes(
    steps: Callable[[], list[Step]], at: int, place: int, fails: Callable[[list[Step]], bool]
) -> None:
    """Leave out what can be left out of one value of one step."""
    size = len(steps()[at][place]) // 2
    while size:
        start = 0
        while start < len(steps()[at][place]):
            data = steps()[at][place]
            step = list(steps()[at])
            step[place] = data[:start] + data[start + size :]
            if not fails([*steps()[:at], tuple(step), *steps()[at + 1 :]]):
                start += size
        size //= 2
