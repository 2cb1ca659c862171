"""How every API must ask, answer, know its members and lock: see ``conformance_bus``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from open_channel import (
    ChannelClosed,
    NoResponders,
    PayloadInvalid,
    RequestTimeout,
    ResponderDied,
    ResponderError,
    WaitTimeout,
)
from tests.channel.programs import Programs
from tests.channel.steps import DEADLINE, eventually

Join = Callable[..., Awaitable[Any]]

user: ContextVar[str] = ContextVar("user", default="nobody")


def double(request: Any) -> int:
    return 2 * int(request.data)


class Gate:
    """Handlers wait in front of it, in whatever loop they run, until it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.waiting = 0

    def open(self) -> None:
        self._open.set()

    async def handler(self, request: Any) -> str:
        self.waiting += 1
        await eventually(self._open.is_set)
        return "done"


class Requests:
    """A request ends: with a reply, an error, or in time."""

    async def test_any_responder_answers(self, join: Join):
        shop, other = await join(), await join(hosts=False)

        async def slowly(request: Any) -> bytes:
            await asyncio.sleep(0)
            return bytes(request.body) + b"!"

        async with other.serve("double", double), other.serve("shout.*", slowly):
            assert await shop.request("double", 21) == 42
            assert await shop.request("shout.loud", b"hey") == b"hey!"
            assert await other.request("double", 1) == 2
        with pytest.raises(NoResponders):
            await shop.request("double", 1)

    async def test_many_at_once_are_shared_out(self, join: Join):
        shop, one, two = await join(), await join(), await join(hosts=False)
        by = {"one": 0, "two": 0}

        def counting(name: str) -> Callable[[Any], int]:
            def handler(request: Any) -> int:
                by[name] += 1
                return double(request)

            return handler

        async with one.serve("double", counting("one")), two.serve("double", counting("two")):
            replies = await asyncio.gather(*(shop.request("double", n) for n in range(200)))
        assert replies == [2 * n for n in range(200)]
        assert min(by.values()) > 0
        assert sum(by.values()) == 200
        assert shop.stats().unacknowledged == 0

    async def test_one_member_can_be_asked(self, join: Join):
        shop, one, two = await join(), await join(), await join(hosts=False)
        async with one.serve("who", lambda _: "one"), two.serve("who", lambda _: "two"):
            assert await shop.request("who", to=two.member) == "two"
            assert await shop.request("who", to=one.member) == "one"
            with pytest.raises(NoResponders):
                await shop.request("who", to=shop.member)
            with pytest.raises(NoResponders):
                await shop.request("who", to="0f" * 16)
            with pytest.raises(ValueError, match="32 hexadecimal"):
                await shop.request("who", to="nobody")

    async def test_all_are_asked_and_errors_stand_among_the_replies(self, join: Join):
        shop, one, two = await join(), await join(), await join(hosts=False)

        def fails(request: Any) -> None:
            raise LookupError("not here")

        assert await shop.request_all("stats") == {}
        async with one.serve("stats", lambda _: 1), two.serve("stats", fails):
            replies = await shop.request_all("stats", timeout=DEADLINE)
        assert replies.keys() == {one.member, two.member}
        assert replies[one.member] == 1
        failure = replies[two.member]
        assert isinstance(failure, ResponderError)
        assert (failure.kind, failure.reason) == ("LookupError", "not here")
        assert (failure.responder, failure.topic) == (two.member, "stats")

    async def test_who_does_not_reply_in_time_is_missing(self, join: Join):
        shop, one, two = await join(), await join(), await join()
        gate = Gate()
        async with one.serve("stats", lambda _: 1), two.serve("stats", gate.handler):
            assert await shop.request_all("stats", timeout=0.3) == {one.member: 1}
            gate.open()

    async def test_an_error_comes_with_its_type_and_text(self, join: Join):
        shop, other = await join(), await join()

        def fails(request: Any) -> None:
            raise KeyError(request.data)

        async def stops(request: Any) -> None:
            raise ArithmeticError

        async with (
            other.serve("price", fails),
            other.serve("stops", stops),
            other.serve("odd", lambda _: object()),
        ):
            with pytest.raises(ResponderError) as raised:
                await shop.request("price", "größe")
            assert (raised.value.kind, raised.value.reason) == ("KeyError", "'größe'")
            assert raised.value.responder == other.member
            with pytest.raises(ResponderError, match="ArithmeticError"):
                await shop.request("stops")
            with pytest.raises(ResponderError, match="PayloadInvalid"):
                await shop.request("odd")

    async def test_no_reply_in_time_frees_everything(self, join: Join):
        shop, other = await join(), await join()
        gate = Gate()
        async with other.serve("slow", gate.handler, concurrency=1):
            with pytest.raises(RequestTimeout) as raised:
                await shop.request("slow", timeout=0.1)
            assert (raised.value.topic, raised.value.timeout) == ("slow", 0.1)
            gate.open()
            assert await shop.request("slow") == "done"
        assert await shop.flush() == ()
        assert (shop.stats().unacknowledged, shop.stats().outbox) == (0, 0)

    async def test_no_more_than_concurrency_are_handled_at_once(self, join: Join):
        shop, other = await join(), await join()
        gate = Gate()
        async with other.serve("slow", gate.handler, concurrency=3):
            asking = [asyncio.create_task(shop.request("slow")) for _ in range(10)]
            await eventually(lambda: gate.waiting == 3)
            assert gate.waiting == 3
            gate.open()
            assert await asyncio.gather(*asking) == ["done"] * 10

    async def test_each_request_has_a_context_of_its_own(self, join: Join):
        shop, other = await join(), await join()

        def handler(request: Any) -> str:
            before = user.get()
            user.set(request.data)
            return before

        async with other.serve("who", handler):
            for name in ("alice", "bob"):
                assert await shop.request("who", name) == "nobody"

    async def test_what_is_in_hand_is_finished_before_the_block_ends(self, join: Join):
        shop, other = await join(), await join()
        gate = Gate()
        async with other.serve("slow", gate.handler):
            waiting = asyncio.create_task(shop.request("slow"))
            await eventually(lambda: gate.waiting)
            asyncio.get_running_loop().call_later(0.05, gate.open)
        assert await waiting == "done"

    async def test_a_block_that_fails_waits_for_nobody(self, join: Join):
        shop, other = await join(), await join()
        gate = Gate()

        async def serve_and_fail() -> None:
            async with other.serve("slow", gate.handler):
                await eventually(lambda: gate.waiting)
                raise LookupError

        async def ask() -> None:
            while True:
                with contextlib.suppress(NoResponders):  # it has not begun to serve
                    await shop.request("slow", timeout=DEADLINE)

        serving = asyncio.create_task(serve_and_fail())
        with pytest.raises((ResponderError, ResponderDied)):
            await ask()
        with pytest.raises(LookupError):
            await serving
        gate.open()

    async def test_a_responder_that_is_killed_is_told(self, join: Join, run: Programs):
        shop = await join()
        program = run(
            """
            import threading
            from open_channel.sync import open_channel
            def waits(request):
                print("asked\\n", end="")  # in one piece: there are two threads
                threading.Event().wait()
            with open_channel("shop", hosts=False) as channel, channel.serve("slow", waits):
                print(channel.member)
                threading.Event().wait()
            """
        )
        member = await program.next_line()
        asking = [
            asyncio.create_task(shop.request("slow", timeout=None)),
            asyncio.create_task(shop.request("slow", to=member, timeout=None)),
        ]
        for _ in asking:
            assert await program.next_line() == "asked"
        program.kill()
        for request in asking:
            with pytest.raises(ResponderDied):
                await request
        assert await shop.request_all("slow", timeout=DEADLINE) == {}

    async def test_requests_and_replies_have_types(self, join: Join):
        shop, other = await join(), await join()
        async with other.serve("double", double, type=int):
            assert type(await shop.request("double", 2, type=float)) is float
            with pytest.raises(ResponderError, match="PayloadInvalid"):
                await shop.request("double", "two")
            with pytest.raises(PayloadInvalid) as raised:
                await shop.request("double", 2, type=str)
            assert (raised.value.topic, raised.value.sender) == ("double", other.member)
            replies = await shop.request_all("double", 2, type=str)
            assert isinstance(replies[other.member], PayloadInvalid)

    async def test_large_requests_and_replies(self, join: Join):
        shop, other = await join(), await join(hosts=False)
        async with other.serve("echo", lambda request: request.body):
            for size in (0, 64 * 1024, 128 * 1024, 129 * 1024, 8 * 1024 * 1024):
                body = os.urandom(size)
                assert await shop.request("echo", body, timeout=DEADLINE) == body


class Members:
    """Who is here, who comes and goes."""

    async def test_everybody_sees_everybody(self, join: Join):
        shop, other = await join(labels={"role": "web"}), await join(hosts=False)
        await eventually(lambda: len(shop.members) == len(other.members) == 2)
        by_id = {member.id: member for member in shop.members}
        assert by_id.keys() == {shop.member, other.member}
        assert by_id[shop.member].labels == {"role": "web"}
        assert by_id[shop.member].hosting == {"broker"}
        assert by_id[other.member].hosting == frozenset()
        assert by_id[other.member].pid == os.getpid()
        assert shop.stats().members == 2

    async def test_members_are_watched(self, join: Join):
        shop = await join()
        changes: list[Any] = []

        async def watch() -> None:
            async for change in shop.watch_members():
                changes.append(change)

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
        other = await join(labels={"a": "b"})
        await eventually(lambda: changes)
        member = other.member
        await other.close()
        await eventually(lambda: len(changes) == 2)
        assert [change.kind for change in changes] == ["joined", "left"]
        assert {change.member.id for change in changes} == {member}
        assert changes[1].member.labels == {"a": "b"}
        await shop.close()
        await watching

    async def test_another_hosts_when_the_host_leaves(self, join: Join):
        first, second, third = await join(), await join(), await join(hosts=False)
        async with third.subscribe("t") as subscription:
            await first.close()
            for number in range(10):
                await second.publish("t", number)
            assert [(await subscription.get()).data for _ in range(10)] == list(range(10))
        assert (third.stats().takeovers, third.stats().epoch) == (1, 2)


class Locks:
    """One at a time."""

    async def test_a_lock_excludes_others(self, join: Join):
        shop, other = await join(), await join()
        async with shop.lock("nightly"):
            with pytest.raises(WaitTimeout):
                await other.lock("nightly", timeout=0.0).__aenter__()
            async with other.lock("daily", timeout=0.0):
                pass
        async with other.lock("nightly", timeout=DEADLINE):
            pass

    async def test_one_leads_and_its_result_is_returned(self, join: Join):
        shop, other = await join(), await join()
        gate = Gate()
        leading: list[str] = []

        async def run() -> str:
            leading.append("shop")
            return await gate.handler(None)

        first = asyncio.create_task(shop.lead("scheduler", run))
        await eventually(lambda: gate.waiting)
        second = asyncio.create_task(other.lead("scheduler", lambda: leading.append("other")))
        await asyncio.sleep(0)
        assert leading == ["shop"]
        gate.open()
        assert (await first, await second) == ("done", None)
        assert leading == ["shop", "other"]

    @pytest.mark.parametrize("how", ["lock", "lead"])
    async def test_closing_ends_the_wait_and_no_lock_that_is_held(self, join: Join, how: str):
        shop, other = await join(), await join()

        async def wait(name: str) -> None:
            if how == "lead":
                await shop.lead(name, lambda: None)
            else:
                async with shop.lock(name):
                    pass

        async with shop.lock("held") as held, other.lock("l"):
            waiting = [asyncio.create_task(wait("l")) for _ in range(2)]
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in waiting)
            await shop.close()
            async with asyncio.timeout(DEADLINE):
                done = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(one) for one in done] == [ChannelClosed] * 2
            with pytest.raises(WaitTimeout):
                async with other.lock("held", timeout=0):
                    pass
            assert held is not None
        async with other.lock("l", timeout=1), other.lock("held", timeout=1):
            pass
