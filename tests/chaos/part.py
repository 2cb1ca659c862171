"""What the processes of a chaos run have in common, whatever they run on."""

from __future__ import annotations

import json
import os
import random
import time
from typing import Any

from open_channel import Limits
from open_channel.io.directory import ChannelFiles
from tests.chaos.evidence import SETTLES
from tests.chaos.notes import Config, Notes, Resources, Watch, measure

__all__ = ["ANSWERS", "CHANNEL", "FLUSHES", "Part"]

CHANNEL = "shop"
ANSWERS = 20.0  # seconds in which a listener must have answered what was written
FLUSHES = 90.0  # seconds that a flush may take: jobs wait for consumers that are stopped
_LINGERS = 40.0  # seconds that what waits for a lock is watched
_LOCKS = ("a", "b")
_SIZES = (0, 0, 0, 10, 100, 1000)
_LARGE = (100_000, 300_000, 1_000_000)  # all but the first lie in shared memory


def _filler(number: int, size: int) -> bytes:
    return bytes((number % 251,)) * size


def _checked(number: int, filler: bytes) -> int:
    """The number; one that nobody has used when what came with it is another's."""
    return number if filler == _filler(number, len(filler)) else -1


class Part:
    """One process's part: what it is called, what it writes down, what it draws by chance."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.name
        self.options = config.options
        self.chance = random.Random(config.seed)
        self.note = Notes(config.ledger)
        self.watch = Watch(self.note)
        self.limits = Limits(**config.limits)  # type: ignore[arg-type]
        self.numbers: dict[str, int] = {}
        self.conversations = 0
        self._lingering: list[str] = []
        self.note("born", os.getpid(), config.role, config.runtime)

    @property
    def labels(self) -> dict[str, str]:
        return {"name": self.name, "role": self.config.role}

    def next_message(self, family: str) -> tuple[str, list[Any]]:
        """The topic and the data of the next one to publish, which is written down."""
        number = self.numbers[family] = self.numbers.get(family, -1) + 1
        topic = f"{family}.{self.chance.choice('ab')}"
        filler = self._draw_filler(number, 0.03 if family == "jobs" else 0.006)
        self.note("published", family, number)
        return topic, [self.name, number, time.monotonic(), filler]

    def _draw_filler(self, number: int, large: float) -> bytes:
        """What makes a body longer; large ones now and then."""
        return _filler(
            number, self.chance.choice(_LARGE if self.chance.random() < large else _SIZES)
        )

    def pause(self) -> float:
        """Seconds until it does the next thing."""
        pause: float = self.options.get("pause", 0.01)
        return pause * self.chance.uniform(0.5, 1.5)

    def note_message(self, message: Any) -> None:
        publisher, number, at, filler = message.data
        number = _checked(number, filler)
        self.note("got", message.topic.split(".")[0], publisher, number, message.missed, at)

    def begin_job(self, job: Any) -> tuple[str, int]:
        """Whose it is, and which."""
        publisher, number, _, filler = job.data
        number = _checked(number, filler)
        self.note("began", publisher, number, job.redelivered)
        return publisher, number

    # --- requests --------------------------------------------------------------------------

    def ask(self, number: int, kind: str) -> list[Any]:
        """What a request carries."""
        return [self.name, number, kind, self._draw_filler(number, 0.03)]

    def note_asked(self, request: Any) -> list[Any]:
        """The reply to a request."""
        requester, number, _, filler = request.data
        number = _checked(number, filler)
        self.note("asked", requester, number, request.redelivered)
        return [requester, number, self.name, filler]

    def draw_request(self, channel: Any) -> tuple[str, str]:
        """Whom to ask: "one", "all", or "to" a member, and which."""
        draw = self.chance.random()
        if draw < 0.1:
            return "all", ""
        if draw < 0.2:
            found = [m.id for m in channel.members if m.labels.get("role") == "responder"]
            if found:
                return "to", self.chance.choice(found)
        return "one", ""

    def judge_reply(self, number: int, reply: Any) -> tuple[str, list[str]]:
        requester, answered, by, filler = reply
        answered = _checked(answered, filler)
        right = (requester, answered) == (self.name, number)
        return ("reply" if right else f"the reply to {requester} {answered}"), [by]

    def judge_replies(self, number: int, replies: dict[str, Any]) -> tuple[str, list[str]]:
        judged = [
            (type(reply).__name__, [""])
            if isinstance(reply, Exception)
            else self.judge_reply(number, reply)
            for reply in replies.values()
        ]
        wrong = [outcome for outcome, _ in judged if outcome != "reply"]
        return (wrong[0] if wrong else "replies"), [name for _, by in judged for name in by]

    def draw_lock(self) -> tuple[str, float]:
        """The name of a lock, and for how long to wait for it."""
        return self.chance.choice(_LOCKS), self.chance.choice([0.0, 0.3, 2.0])

    # --- the end ---------------------------------------------------------------------------

    def settled(self, before: Resources, left: float) -> bool:
        """Whether all that the channel had open is gone, or will not go; it is noted then.

        ``left`` is when it was closed. A thread that waits for a lock cannot be called back before
        the lock is free. How long that may be depends on who holds it: the judge knows.
        """
        more, waited = measure().beyond(before), time.monotonic() - left
        locks = self._only_waits_for(more)
        if locks and waited >= SETTLES:
            self._lingering = locks
        if more and waited < (_LINGERS if locks else SETTLES):
            return False
        if self._lingering:
            self.note("lingered", self._lingering, left)
        self.note("leaks", more)
        return True

    def _only_waits_for(self, more: list[str]) -> list[str]:
        """The locks that all of this is there for: their files, and a thread for each."""
        files = ChannelFiles.of(self.config.directory, CHANNEL)
        paths = {files.user_lock(name): name for name in (*_LOCKS, "leader")}
        found = [item.removesuffix(" (deleted)").split(" ")[-1] for item in more]
        return sorted({paths[path] for path in found}) if paths.keys() >= {*found} else []

    # --- talking with a listener -----------------------------------------------------------

    def question(self, number: int) -> bytes:
        self.note("wrote", number)
        return json.dumps([self.name, number]).encode()

    def note_answer(self, answer: bytes) -> int:
        _, number, pid = json.loads(answer)
        self.note("answer", number, pid)
        return int(number)

    def begin_conversation(self) -> str:
        self.conversations += 1
        return f"{self.name}/{self.conversations}"

    def hear(self, conversation: str, message: bytes, redelivered: bool) -> bytes:
        """What a listener says to a message."""
        client, number = json.loads(message)
        self.note("heard", client, number, redelivered, conversation)
        return json.dumps([client, number, os.getpid()]).encode()
