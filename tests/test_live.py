"""What lives in one process is refused by copy and pickle; what only tells something is not."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

import open_channel
import open_channel.sync
from open_channel import (
    Batch,
    ChannelError,
    Job,
    Limits,
    Member,
    MemberChange,
    Message,
    Peer,
    Stats,
)
from open_channel.live import Live

LIVE = {"Channel", "ChannelSocket", "Job", "Lock", "MemberChanges", "Service", "Subscription"}
VALUES = {"Batch", "Limits", "Member", "MemberChange", "Message", "Peer", "Stats"}

ways = pytest.mark.parametrize(
    "way",
    [copy.copy, copy.deepcopy, *range(pickle.HIGHEST_PROTOCOL + 1)],
    ids=lambda way: f"pickle {way}" if isinstance(way, int) else way.__name__,
)


def again(way: Any, thing: Any) -> Any:
    if callable(way):
        return way(thing)
    return pickle.loads(pickle.dumps(thing, way))


async def listen(socket: open_channel.ChannelSocket) -> None:
    await socket.read()


class Order(msgspec.Struct):
    """What is published as a type of its own."""

    number: int


# --- which of the public names are what -----------------------------------------------------------


@pytest.mark.parametrize("module", [open_channel, open_channel.sync], ids=lambda it: it.__name__)
def test_each_public_name_is_live_or_a_value(module: Any):
    classes = {
        name: thing
        for name in module.__all__
        if isinstance(thing := getattr(module, name), type) and not issubclass(thing, ChannelError)
    }
    assert {name for name, thing in classes.items() if issubclass(thing, Live)} == LIVE & {*classes}
    assert {*classes} <= LIVE | VALUES


# --- what lives -----------------------------------------------------------------------------------


def refused(way: Any, thing: Any) -> str:
    with pytest.raises(TypeError) as caught:
        again(way, thing)
    text = str(caught.value)
    assert text.startswith(f"a {type(thing).__name__} cannot be copied or pickled: ")
    return text


@ways
async def test_what_lives_is_refused(way: Any, channel_dir: Path):
    async with (
        open_channel.open_channel("shop", listen) as channel,
        channel.lock("till") as lock,
        channel.subscribe("jobs", group="g") as jobs,
        channel.serve("price", lambda request: 5) as service,
    ):
        await channel.publish("jobs", 1)
        job = await jobs.get()
        for thing in (channel, channel.connect(), lock, jobs, service):
            assert "open the channel again, by its name" in refused(way, thing)
        assert isinstance(job, Job)
        assert "pass on its data" in refused(way, job)
        assert lock.held
        job.ack()


@pytest.fixture
def blocking(channel_dir: Path) -> Iterator[dict[str, Any]]:
    """Give one of each that lives, of the blocking API, by name."""
    with ExitStack() as stack:
        channel = stack.enter_context(
            open_channel.sync.open_channel("shop", lambda socket: socket.read())
        )
        yield {
            "Channel": channel,
            "ChannelSocket": channel.connect(),
            "Lock": stack.enter_context(channel.lock("till")),
            "MemberChanges": stack.enter_context(channel.watch_members()),
            "Service": stack.enter_context(channel.serve("price", lambda request: 5)),
            "Subscription": stack.enter_context(channel.subscribe("t")),
        }


@ways
def test_what_lives_is_refused_by_the_blocking_api(way: Any, blocking: dict[str, Any]):
    assert {*blocking} == {*open_channel.sync.__all__} - {"open_channel"}
    for name, thing in blocking.items():
        assert type(thing).__name__ == name
        assert "open the channel again, by its name" in refused(way, thing)
    assert blocking["Lock"].held


def test_what_holds_something_that_lives_is_refused(blocking: dict[str, Any]):
    for holds in ([blocking["Lock"]], blocking["Lock"].release):
        with pytest.raises(TypeError, match="a Lock cannot be copied or pickled"):
            pickle.dumps(holds)


def test_a_spawned_process_is_not_given_a_lock(blocking: dict[str, Any]):
    child = multiprocessing.get_context("spawn").Process(target=release, args=[blocking["Lock"]])
    with pytest.raises(TypeError, match="a Lock cannot be copied or pickled"):
        child.start()


def test_a_forked_process_inherits_what_lives(run: Callable[..., Any]):
    program = run(
        """
        import multiprocessing, os
        from open_channel.sync import open_channel

        def work(shop, lock):
            assert not lock.held
            lock.release()
            shop.publish("t", os.getpid(), confirm=True)

        with open_channel("shop") as shop, shop.subscribe("t") as messages, shop.lock("l") as lock:
            child = multiprocessing.get_context("fork").Process(target=work, args=[shop, lock])
            child.start()
            assert messages.get(20).data == child.pid
            child.join(20)
            assert child.exitcode == 0
            assert lock.held
        """
    )
    assert program.wait_end() == 0, program.errors()


def release(lock: open_channel.sync.Lock) -> None:
    lock.release()


def test_weak_references_work(blocking: dict[str, Any]):
    for thing in blocking.values():
        assert weakref.ref(thing)() is thing


def test_a_class_of_the_users_may_say_otherwise():
    class Reopened(open_channel.sync.Channel):
        def __reduce__(self) -> Any:
            return open_channel.sync.open_channel, (self.name,)

    channel = Reopened("shop", None, None, None)
    assert pickle.loads(pickle.dumps(channel)).name == "shop"
    assert copy.copy(channel).name == "shop"


# --- what tells something -------------------------------------------------------------------------


@ways
@pytest.mark.parametrize(
    "data",
    [b"bytes", bytes(200_000), {"plain": [1]}, Order(7)],
    ids=["bytes", "large", "plain", "typed"],
)
async def test_messages_are_told_on(way: Any, data: Any, channel_dir: Path):
    wanted = type(data) if isinstance(data, Order) else None
    async with (
        open_channel.open_channel("shop") as channel,
        channel.subscribe("t", type=wanted) as messages,
    ):
        await channel.publish("t", data)
        await channel.publish("t", data)
        batch = await anext(aiter(messages.batches()))
        for message in batch:
            for _ in ("not decoded yet", "decoded"):
                copied = again(way, message)
                assert isinstance(copied, Message)
                assert (copied.topic, copied.sender) == ("t", channel.member)
                assert copied.data == message.data == data
        copied = again(way, batch)
        assert isinstance(copied, Batch)
        assert [message.data for message in copied] == [message.data for message in batch]


@ways
async def test_facts_are_told_on(way: Any, channel_dir: Path):
    async with open_channel.open_channel("shop", listen, labels={"a": "b"}) as channel:
        socket = channel.connect()
        await socket.wait_connected()
        (member,) = channel.members
        facts = {
            Limits: Limits(timeout=3.0),
            Member: member,
            MemberChange: MemberChange("joined", member),
            Peer: channel.peer,
            Stats: channel.stats(),
        }
        for kind, value in facts.items():
            copied = again(way, value)
            assert type(copied) is kind
            assert copied == value
        assert {kind.__name__ for kind in facts} | {"Batch", "Message"} == VALUES
