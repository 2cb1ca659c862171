"""One counter for all processes of this machine: run it as often as you like, at the same time.

Each process adds to the same count and prints what it is then, once a second. Whoever started
first keeps the count; end that one, and another begins to count anew.

    python examples/counter.py [HOW_OFTEN]
"""

from __future__ import annotations

import os
import sys
import threading
import time

from open_channel.sync import ChannelSocket, open_channel


class Counter:
    """Counts, in any thread."""

    def __init__(self) -> None:
        self._value = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        with self._lock:
            self._value += 1
            return self._value


counter = Counter()  # in use in the process that hosts; there, each client has a thread


def listener(socket: ChannelSocket) -> None:
    for number in socket:
        socket.write(b"%b %d" % (number, counter.next()))


def main(how_often: int) -> None:
    channel = open_channel("examples.counter", listener)
    socket = channel.connect()
    for number in range(1, how_often + 1):
        socket.write(b"%d" % number)
        # After the death of a host a question may be answered twice: skip what is answered.
        answered = counted = 0
        while answered != number:
            answered, counted = map(int, socket.read(timeout=30).split())
        assert channel.peer is not None
        print(f"pid {os.getpid()}: {counted}, says pid {channel.peer.pid}", flush=True)
        if number < how_often:
            time.sleep(1)
    channel.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
