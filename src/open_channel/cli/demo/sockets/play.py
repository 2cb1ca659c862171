"""Writers send numbered messages to the host's listener and count what it echoes."""

from __future__ import annotations

from open_channel.cli.demo.play import CANDIDATE, Play, Row, count

__all__ = ["SocketPlay"]


class SocketPlay(Play):
    """Half of the processes write, two at least stand for host."""

    name = "sockets"
    service = "l"
    audience = "writer"
    leaving = ("writer",)
    labels = ("sent", "came back")
    pause = "from the kill until all writers had an echo again"
    praise = "Nothing was lost, and all came back in order."

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._writers = workers // 2 if workers > 3 else 1
        self._candidates = workers - self._writers

    @property
    def stages(self) -> tuple[dict[str, int], ...]:
        """See ``Play``."""
        return ({CANDIDATE: self._candidates, "writer": self._writers},)

    def heading(self) -> str:
        """See ``Play``."""
        return count(self._writers, "writer")

    @property
    def sent(self) -> int:
        """See ``Play``."""
        return self.total("sent")

    @property
    def received(self) -> int:
        """See ``Play``."""
        return self.total("received")

    @property
    def lost(self) -> int:
        """What has not come back; of meaning at the end only."""
        return self.sent - self.received

    @property
    def clean(self) -> bool:
        """See ``Play``."""
        wrong = self.lost or self.total("unmarked") or self.total("misordered")
        return not wrong and self.received > 0

    def rows(self) -> list[Row]:
        """See ``Play``."""
        rows = [
            Row("sent", self.sent, "numbered messages of the writers"),
            Row("received", self.received, "of them came back from a host"),
            Row("lost", self.lost, "never came back"),
            Row("redelivered", self.total("redelivered"), "came back again after a takeover"),
            Row("out of order", self.total("misordered"), "came back before or after their turn"),
        ]
        if unmarked := self.total("unmarked"):
            rows.insert(4, Row("unmarked", unmarked, "redelivered and not marked as such"))
        return rows
