"""The lock that threads have for moments: leaving its block releases it, whatever is raised.

Python runs signal handlers where it looks for signals. From 3.11 to 3.13, and again in 3.15, it
does not look between the acquisition that ``with`` makes and the block. In 3.14 it does, so that a
handler that raises there leaves the lock taken (CPython issue 148874): 60 of 100 did in a loop of
such blocks, on 3.14.10.
"""

from __future__ import annotations

import sys
import threading

__all__ = ["RLock"]

if sys.version_info >= (3, 14) and sys.version_info < (3, 15):
    import _thread

    _ONCE = (True,)

    class RLock(_thread.RLock):
        """``threading.RLock`` whose block is left as it was before 3.14; three times as slow."""

        __slots__ = ()

        def __enter__(self) -> bool:
            # Nor is there a look between what an iterator calls and the loop's body, nor before the
            # block of who called a function of Python's that returns.
            for taken in map(self.acquire, _ONCE):
                return taken
            raise AssertionError  # not reached

else:
    RLock = threading.RLock
