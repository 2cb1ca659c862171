"""Publishers send numbered messages, and subscribers check that each arrives once, in order."""

from __future__ import annotations

from open_channel.cli.demo.play import CANDIDATE, Play, Row, count

__all__ = ["BusPlay"]


class BusPlay(Play):
    """A third of the processes publish, a third subscribe, and a third stand for host."""

    name = "bus"
    service = "b"
    audience = "subscriber"
    leaving = ("publisher", "subscriber")
    labels = ("published", "delivered")
    pause = "from the kill until all subscribers had a message again"
    praise = "Each subscriber had every message, once and in order."

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._candidates = max(2, workers // 3)
        self._publishers = (workers - self._candidates) // 2
        self._subscribers = workers - self._candidates - self._publishers

    @property
    def stages(self) -> tuple[dict[str, int], ...]:
        """See ``Play``: first somebody hosts, then all subscribe, and only then one publishes."""
        return (
            {CANDIDATE: self._candidates},
            {"subscriber": self._subscribers},
            {"publisher": self._publishers},
        )

    def heading(self) -> str:
        """See ``Play``."""
        return f"{count(self._publishers, 'publisher')}, {count(self._subscribers, 'subscriber')}"

    @property
    def sent(self) -> int:
        """See ``Play``."""
        return self.total("published")

    @property
    def received(self) -> int:
        """See ``Play``."""
        return self.total("delivered")

    @property
    def lost(self) -> int:
        """What a subscriber has not got; of meaning at the end only."""
        return self.sent * self._subscribers - self.received

    @property
    def clean(self) -> bool:
        """See ``Play``."""
        wrong = self.lost or self.total("duplicated") or self.total("misordered")
        return not wrong and self.received > 0

    def rows(self) -> list[Row]:
        """See ``Play``."""
        every = f"of them to {count(self._subscribers, 'subscriber')}, together"
        return [
            Row("published", self.sent, "numbered messages of the publishers"),
            Row("delivered", self.received, every),
            Row("lost", self.lost, "never came to a subscriber"),
            Row("duplicated", self.total("duplicated"), "came to a subscriber again"),
            Row("out of order", self.total("misordered"), "came after a later one"),
        ]
