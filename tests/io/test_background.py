"""The one background thread: it is one, and has a loop of uvloop's where that works."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.channel.programs import Programs


@pytest.mark.parametrize("moment", ["before the loop is made", "when it runs"])
def test_who_needs_it_in_the_midst_of_its_start_gets_the_one_loop(run: Programs, moment: str):
    """As a signal handler or a finalizer may: it runs in the thread that starts it."""
    program = run(
        """
        import faulthandler, sys, threading, time
        from open_channel.io import background

        faulthandler.dump_traceback_later(15, exit=True)
        make, loops = background._new_event_loop, []

        def meanwhile():
            background._new_event_loop = make
            loops.append(background.background_loop())

        def make_first():
            meanwhile()
            return make()

        class Thread(threading.Thread):
            def start(self):
                background.threading.Thread = threading.Thread = Original
                super().start()
                meanwhile()

        Original = threading.Thread
        if sys.argv[1] == "when it runs":
            threading.Thread = Thread
        else:
            background._new_event_loop = make_first
        loops.append(background.background_loop())
        loops.append(background.background_loop())
        assert len(loops) == 3 and len(set(loops)) == 1, loops

        def ours():
            return [thread for thread in threading.enumerate() if thread.name == "open-channel"]

        while len(ours()) > 1:
            time.sleep(0.001)
        called = threading.Event()
        loops[0].call_soon_threadsafe(called.set)
        assert called.wait(10)
        """,
        moment,
    )
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""


@pytest.mark.parametrize("closed", [(), (0,), (2,), (0, 1, 2)], ids=str)
def test_a_process_without_standard_descriptors_can_use_it(
    channel_dir: Path, tmp_path: Path, closed: tuple[int, ...]
):
    """The library under uvloop ends a process in which it closes one of these numbers."""
    program = """
        import os, sys
        for descriptor in map(int, sys.argv[2:]):
            os.close(descriptor)
        from open_channel.io.background import background_loop
        from open_channel.sync import open_channel
        with open_channel("closed") as channel, channel.subscribe("t") as messages:
            for number in range(100):
                channel.publish("t", number)
            numbers = [messages.get(timeout=20).data for _ in range(100)]
        with open(sys.argv[1], "w") as file:
            print(numbers == list(range(100)), type(background_loop()).__module__, file=file)
    """
    told = tmp_path / "told"
    arguments = [sys.executable, "-c", textwrap.dedent(program), str(told), *map(str, closed)]
    ended = subprocess.run(arguments, timeout=50, check=False, env=dict(os.environ))
    assert ended.returncode == 0
    right, loop = told.read_text().split()
    assert right == "True"
    assert loop.startswith("asyncio" if closed else "uvloop")
