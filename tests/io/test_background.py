"""The one background thread: it is one."""

from __future__ import annotations

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
