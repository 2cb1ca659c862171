"""Each process has a cache of its own; what one drops, all drop.

    python examples/drop_cache.py

Run it in several terminals, and type `get KEY` and `drop KEY`.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable

from open_channel.sync import open_channel


class Cache:
    """Values by key, loaded by `load(key)`; can be used in any thread."""

    def __init__(self, name: str, load: Callable[[str], str]) -> None:
        self._load = load
        self._values: dict[str, str] = {}
        self._lock = threading.Lock()
        self._drops = 0
        self._listening = threading.Event()
        self._channel = open_channel(name)
        threading.Thread(target=self._listen, daemon=True).start()
        self._listening.wait(10)

    def get(self, key: str) -> str:
        """The value, loaded when it is not here."""
        with self._lock:
            if key in self._values:
                return self._values[key]
            drops = self._drops
        value = self._load(key)
        with self._lock:
            if drops == self._drops:  # else what was loaded may be old already
                self._values[key] = value
        return value

    def drop(self, key: str) -> None:
        """Have all processes load it again; returns when the living have been told."""
        self._channel.publish("drop", key, confirm=True, timeout=10)

    def _listen(self) -> None:
        with self._channel.subscribe("drop") as keys:
            self._listening.set()
            for message in keys:
                with self._lock:
                    self._drops += 1
                    if message.missed:  # nobody knows which keys those were
                        self._values.clear()
                    self._values.pop(message.data, None)


numbers = itertools.count(1)


def load(key: str) -> str:
    return f"{key}, load {next(numbers)} of pid {os.getpid()}"


def main() -> None:
    cache = Cache("examples.cache", load)
    print("ready", flush=True)
    for line in sys.stdin:
        command, _, key = line.strip().partition(" ")
        if command == "drop":
            cache.drop(key)
            print(f"dropped {key}", flush=True)
        elif command == "get":
            print(cache.get(key), flush=True)


if __name__ == "__main__":
    main()
