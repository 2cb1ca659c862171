"""The users' locks: each is the ``flock`` on a file of its own, so the kernel releases it at death.

There is no broker and no polling. A lock that is free is taken at once. For one that is not, a
helper thread blocks in ``flock()`` as long as anybody in this process waits, one for each lock, and
hands what it got to the first who waits. It cannot be called back (closing the descriptor wakes
nobody, and Python blocks again after a signal), but what it waits for can be taken from it: when
nobody waits any more its descriptor is made another file's. The kernel then frees the lock in the
moment in which it gives it (the last that knew the locked file was the call itself), without this
process, which may be busy; the thread ends then. What could be waited for instead, that the
holder's descriptor is closed, inotify tells before the kernel lets go of the lock.

``Claim`` is one try, and knows neither threads nor event loops: it calls back. ``NamedLock`` is
what the asyncio and the blocking lock have in common.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeVar, cast

from open_channel.arguments import check_timeout
from open_channel.errors import ChannelError, NameCollision, NoThread, WaitTimeout
from open_channel.io import fork
from open_channel.io.directory import check_name, secure
from open_channel.io.lockfile import LockFile, WaitedLockFile
from open_channel.live import Live
from open_channel.rlock import RLock

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_channel.io.directory import ChannelFiles

__all__ = ["Claim", "Claims", "NamedLock"]

# Who was woken by a release needs some 50 us until it has the lock. One who releases and asks again
# at once would always be faster: it goes the long way, through the helper thread.
_JUST_NOW = 0.001  # seconds
_REMEMBERED = 1024  # released locks
_LEFT = 4  # threads that were left for one lock; the next goes on waiting for whoever comes
_DELETED = 10  # times that the directory may be deleted while one lock is asked for

_Opened = TypeVar("_Opened")


class _Queue:
    """One lock's users in this process: there while one holds it, waits, or has left a thread."""

    __slots__ = ("blocked", "files", "holder", "left", "path", "threaded", "waiting")

    def __init__(self, files: ChannelFiles, path: str) -> None:
        self.files = files
        self.path = path
        self.holder: Claim | None = None
        self.waiting: OrderedDict[Claim, None] = OrderedDict()  # it can be left anywhere
        self.threaded = False
        self.blocked: WaitedLockFile | None = None
        """What the helper thread waits for."""
        self.left = 0
        """How many threads were left, and have not ended yet."""

    def remove(self, claim: Claim) -> None:
        """It waits no more; call with the guard held."""
        del self.waiting[claim]
        if self.waiting or self.blocked is None or self.left >= _LEFT:
            return
        if self.blocked.leave():
            self.blocked = None
            self.threaded = False
            self.left += 1


class _Locks:
    """All queues of this process, and the guard under which everything here changes.

    A fork takes the guard too: so no child is forked while a descriptor is open and not yet
    watched (it would hold the lock beyond its parent's death), nor while a queue is half changed.
    """

    def __init__(self) -> None:
        self.forked()
        fork.watch_always(self)
        os.register_at_fork(before=self.enter, after_in_parent=self.leave)

    @property
    def guard(self) -> RLock:
        """Of this process; a parent's may be held by a thread that is not here."""
        fork.notice()
        return self._guard

    def enter(self) -> None:
        self.guard.acquire()

    def leave(self) -> None:
        self.guard.release()

    def forked(self) -> None:
        # Reentrant, because a signal handler may fork while its thread is in here.
        self._guard = RLock()
        self.queues: dict[str, _Queue] = {}
        self.released: dict[str, float] = {}

    def released_just_now(self, path: str) -> bool:
        released = self.released.pop(path, None)
        return released is not None and time.monotonic() - released < _JUST_NOW

    def note_release(self, path: str) -> None:
        if len(self.released) >= _REMEMBERED:
            self.released.clear()
        self.released[path] = time.monotonic()

    def tidy(self, queue: _Queue) -> None:
        """Forget a queue that nobody uses; in a forked child it may be one of the parent's."""
        in_use = queue.holder is not None or queue.waiting or queue.threaded or queue.left
        if not in_use and self.queues.get(queue.path) is queue:
            del self.queues[queue.path]


_locks = _Locks()


class Claim:
    """One try to get a lock, from ``request()`` to ``release()``.

    After the request look at ``waiting``, then at ``granted`` and ``error``. While it is
    ``waiting``, ``told`` will be called once, from another thread, when that is over, unless the
    claim is withdrawn before.
    """

    __slots__ = ("_lock", "_over", "_pid", "_queue", "_told", "error", "name", "path")

    def __init__(self, files: ChannelFiles, name: str, told: Callable[[], object]) -> None:
        self.name = name
        self.path = files.user_lock(name)
        self._queue = _Queue(files, self.path)
        self._told = told
        self._pid = os.getpid()
        self._lock: LockFile | None = None
        self._over = False
        self.error: ChannelError | None = None
        """Why it has failed."""

    @property
    def ours(self) -> bool:
        """Whether it is this process's; False in a forked child."""
        return self._pid == os.getpid()

    @property
    def waiting(self) -> bool:
        """Whether nothing is decided yet."""
        return self in self._queue.waiting

    @property
    def granted(self) -> bool:
        """Whether it has the lock, and has not released it."""
        return self._lock is not None

    @property
    def held(self) -> bool:
        """The same, and nobody has deleted the lock's file meanwhile."""
        return self._lock is not None and self._lock.holds()

    def request(self, *, wait: bool = True) -> None:
        """Ask for the lock; without ``wait`` it is decided at once. Can be called from any thread.

        Raises NoThread when no thread can be started.
        """
        with _locks.guard:
            queue = self._queue = _locks.queues.get(self.path) or self._queue
            # A thread that nobody waits for any more says nothing about the lock.
            idle = queue.holder is None and not queue.waiting
            yields = wait and (queue.threaded or _locks.released_just_now(self.path))
            try:
                # At once: an exception of a signal handler's may come anywhere, and then what this
                # claim knows of is released.
                self._lock = _try(queue) if idle and not yields else None
            except (OSError, ChannelError) as error:
                self.error = _failure(self.name, error)
                return
            if self._lock is not None:
                _locks.queues[self.path] = queue
                self.grant(self._lock)
                _locks.tidy(queue)
            elif wait:
                _locks.queues[self.path] = queue
                queue.waiting[self] = None
                _start(queue)

    def withdraw(self) -> bool:
        """Wait no longer; False when it was decided before."""
        with _locks.guard:
            if not self.waiting:
                return False
            self._queue.remove(self)
            return True

    def release(self) -> None:
        """Let go of the lock, or of the place in the queue; again is harmless.

        In a forked child nothing happens: the child has closed its parent's descriptors.
        """
        with _locks.guard:
            self._over = True
            self.withdraw()
            lock = self._lock
            if lock is None:
                return
            lock.release()
            self._lock = None
            if self._queue.holder is self:  # after its file was deleted, another may be it
                self._queue.holder = None
            if self.ours:
                _locks.note_release(self._queue.path)
            _locks.tidy(self._queue)

    def grant(self, lock: LockFile) -> None:
        """The lock is had; called with the guard held."""
        self._lock = lock
        self._queue.holder = self
        try:
            _put_name(lock, self._queue.files, self.name)
        except NameCollision as error:
            self.error = error
        except OSError:
            if not self._over:
                raise
        # The guard is reentrant: a signal handler, or a coroutine that is being collected, may have
        # given the claim up in this thread since it left the queue.
        if self.error is not None or self._over:
            self.release()

    def tell(self) -> None:
        """It is decided; called without the guard, by the helper thread."""
        try:
            self._told()
        except RuntimeError:  # the event loop that waited is closed
            self.release()


class Claims:
    """The claims of one channel, as long as they wait: they end with it."""

    def __init__(self) -> None:
        self._waiting: set[Claim] = set()
        self._error: ChannelError | None = None

    def add(self, claim: Claim) -> None:
        """It is to wait. Raises what has closed the channel."""
        if self._error is not None:
            raise self._error.again()
        self._waiting.add(claim)

    def discard(self, claim: Claim) -> None:
        """It waits no more."""
        self._waiting.discard(claim)

    def refuse(self, error: ChannelError) -> None:
        """The channel is closed. Who holds a lock goes on holding it."""
        with _locks.guard:
            self._error = error
            refused = [claim for claim in self._waiting if claim.ours and claim.withdraw()]
            for claim in refused:
                claim.error = error.again()
        for claim in refused:
            claim.tell()


def _try(queue: _Queue) -> LockFile | None:
    """The lock, if it is free."""
    return _in_directory(queue, LockFile.acquire)


def _start(queue: _Queue) -> None:
    """See that a helper thread is at work."""
    if queue.threaded:
        return
    queue.threaded = True
    try:
        # Not by threading, which waits for a thread's first sign: a signal handler that raises
        # there makes it fall over its own locks, and in 3.14 leave one taken that each new thread
        # needs. This one needs the guard, which we hold, before it does anything.
        _thread.start_new_thread(_serve, (queue,))
    except RuntimeError as error:  # there are no more threads, or the interpreter ends
        queue.threaded = False
        queue.waiting.clear()
        _locks.tidy(queue)
        raise NoThread(reason=str(error)) from error


def _serve(queue: _Queue) -> None:
    """The helper thread: get the lock for one waiter after the other."""
    more = True
    while more:
        try:
            lock = _wait(queue)
        except (OSError, ChannelError) as error:
            _fail(queue, error)
            return
        if lock is None:
            return
        with _locks.guard:
            claim = queue.waiting.popitem(last=False)[0] if queue.waiting else None
            if claim is None:
                lock.release()
            else:
                claim.grant(lock)
            more = queue.threaded = bool(queue.waiting)
            _locks.tidy(queue)
        if claim is not None:
            claim.tell()


def _wait(queue: _Queue) -> LockFile | None:
    """Block until this process has the lock on the file that the path names.

    None when nobody waits any more.
    """
    while True:
        with _locks.guard:
            if not queue.waiting:
                queue.threaded = False
                _locks.tidy(queue)
                return None
            lock = queue.blocked = _in_directory(queue, WaitedLockFile.open)
        holds = False
        try:
            lock.wait()
            holds = lock.holds()
        finally:
            with _locks.guard:
                if lock.left:
                    queue.left -= 1
                    _locks.tidy(queue)
                else:
                    queue.blocked = None
                if lock.left or not holds:
                    lock.release()
        if lock.left:
            return None
        if holds:
            return lock
        # A cleaner was between us: the path has another file, or none.


def _fail(queue: _Queue, error: OSError | ChannelError) -> None:
    with _locks.guard:
        failed = list(queue.waiting)
        queue.waiting.clear()
        queue.threaded = False
        _locks.tidy(queue)
        for claim in failed:
            claim.error = _failure(claim.name, error)
    for claim in failed:
        claim.tell()


def _failure(name: str, error: OSError | ChannelError) -> ChannelError:
    """What a claim raises for it, an exception of its own."""
    if isinstance(error, ChannelError):
        return error.again()
    failure = ChannelError(reason=f"lock {name!r}: {error}")
    failure.__cause__ = error
    return failure


def _in_directory(queue: _Queue, open_file: Callable[[str], _Opened]) -> _Opened:
    """Open the lock's file, and make the directory where something has deleted it."""
    for left in reversed(range(_DELETED)):
        secure(queue.files.directory)  # it may have been made again by somebody else
        try:
            return open_file(queue.path)
        except FileNotFoundError:  # deleted between the two
            if not left:
                raise
    raise AssertionError


def _put_name(lock: LockFile, files: ChannelFiles, name: str) -> None:
    """See that the file has the lock's name; raises NameCollision when it has another."""
    import json  # 2 ms of import that a program need not pay before it locks

    content = json.dumps({"name": files.name, "lock": name}).encode()
    if (found := lock.read().rstrip()) == content:
        return
    try:
        record: Any = json.loads(found)
    except ValueError:  # nothing yet, or half a record
        record = None
    other = cast("dict[str, Any]", record).get("lock") if isinstance(record, dict) else None
    if isinstance(other, str) and other != name:
        raise NameCollision(name=name, other=other, path=lock.path)
    with contextlib.suppress(OSError):  # a full disk: the lock is as good without
        lock.write(content + b"\n")


class NamedLock(Live):
    """What ``bus.locks.Lock`` and ``sync.locks.Lock`` have in common."""

    def __init__(
        self,
        files: ChannelFiles,
        name: str,
        timeout: float | None = None,
        claims: Claims | None = None,
    ) -> None:
        check_timeout(timeout)
        self._files = files
        self._claims = claims or Claims()
        self._name = check_name(name, "lock or leadership")
        self._timeout = timeout
        self._claim: Claim | None = None
        self._acquired = False

    def __repr__(self) -> str:
        state = "held" if self.held else "not held"
        return f"<{type(self).__name__} {self._name!r} {state}>"

    @property
    def name(self) -> str:
        """The name that excludes others."""
        return self._name

    @property
    def channel(self) -> str:
        """The name of its channel."""
        return self._files.name

    @property
    def held(self) -> bool:
        """Whether this object holds the lock now (one ``stat``).

        False too when something has deleted the lock's file, because another may have it then;
        and in a forked child, since the lock stays the parent's.
        """
        fork.notice()
        return self._acquired and self._claim is not None and self._claim.held

    def release(self) -> None:
        """Let go of the lock: the next who waits is woken. Harmless when it is not held."""
        try:
            self._release()
        except BaseException:  # a KeyboardInterrupt, say, which may come at any point of it
            self._release()
            raise

    def _release(self) -> None:
        with _locks.guard:
            if self._acquired and self._claim is not None:
                self._forget(self._claim)

    def _claim_for(self, told: Callable[[], object]) -> Claim:
        return Claim(self._files, self._name, told)

    def _begin(self, claim: Claim) -> None:
        """Ask for the lock; raises RuntimeError when it is held or awaited by this object."""
        with _locks.guard:
            if self._claim is not None and self._claim.ours:
                raise RuntimeError(f"lock {self._name!r} is held or awaited by this object already")
            self._claims.add(claim)
            self._acquired = False
            self._claim = claim
            claim.request(wait=self._timeout != 0)

    def _conclude(self, claim: Claim) -> None:
        """The wait is over: hold the lock, or raise the reason why not."""
        claim.withdraw()
        self._claims.discard(claim)
        if claim.granted:
            self._acquired = True
            return
        self._forget(claim)
        if claim.error is not None:
            raise claim.error
        raise WaitTimeout(what=f"lock {self._name!r}", timeout=self._timeout)

    def _forget(self, claim: Claim) -> None:
        """Give a claim up; harmless when it has never begun, or is over."""
        with _locks.guard:
            claim.release()
            self._claims.discard(claim)
            if self._claim is claim:
                self._claim = None
                self._acquired = False
