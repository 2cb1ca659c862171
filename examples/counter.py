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

count = 0  # in use in the process that hosts
counting = threading.Lock()  # there, each client has a thread


def listener(socket: ChannelSocket) -> None:
    global count
    for number in socket:
        with counting:
            count += 1
            answer = b"%b %d" % (number, count)
        socket.write(answer)


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
