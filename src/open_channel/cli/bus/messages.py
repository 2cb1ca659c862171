"""``pub``, ``sub`` and ``req``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from open_channel.bus.message import Job
from open_channel.cli.bus.membership import joined, others, run, visiting
from open_channel.cli.bus.text import as_line, as_value, data_of, json_line, one_line, print_soon
from open_channel.cli.output import fail, print_json, warn
from open_channel.cli.streams import while_read
from open_channel.errors import ChannelError, JobLost, NoResponders, RequestError
from open_channel.protocol.limits import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from open_channel import Channel
    from open_channel.bus.message import Message
    from open_channel.bus.subscription import Subscription
    from open_channel.io.directory import Resolved

__all__ = ["publish", "request", "request_all", "subscribe"]

_STDIN = "-"
_CHUNK = 256 * 1024  # bytes of standard input at once
_LINES = 1000  # messages that are printed at once
_BYTES = 1024 * 1024  # ... and their bytes, or so
_LARGEST = Limits().max_message


def _parse(text: str | bytes, what: str, *, as_json: bool) -> Any:
    """What to send: bytes, or what a JSON text says.

    Raises typer.Exit when it is no JSON.
    """
    if not as_json:
        return text if isinstance(text, bytes) else os.fsencode(text)  # as they were given
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise fail(f"{what} is no JSON: {error}") from None


def _refuse(constant: str) -> None:
    """NaN and Infinity, which Python takes for JSON."""
    raise ValueError(f"{constant} is no JSON value")


def _parse_data(data: str, *, as_json: bool) -> Any:
    """What DATA says; without it the message is empty, whatever is expected."""
    return _parse(data, "DATA", as_json=as_json and data != "")


# --- standard input -------------------------------------------------------------------------------


async def _chunks() -> AsyncIterator[bytes]:
    """Standard input as it comes.

    It is read in a thread of its own that nobody waits for: an event loop cannot wait for a file,
    and a thread that waits for a terminal cannot be stopped.

    Raises OSError, and typer.Exit when it is closed.
    """
    if sys.stdin is None:
        raise fail("standard input is closed")
    source = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | Exception] = asyncio.Queue(1)

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            chunk: bytes | Exception = b"..."
            while chunk and isinstance(chunk, bytes):
                try:
                    chunk = os.read(source, _CHUNK)
                except Exception as error:
                    chunk = error
                asyncio.run_coroutine_threadsafe(chunks.put(chunk), loop).result()

    threading.Thread(target=read, name="open-channel stdin", daemon=True).start()
    while chunk := await chunks.get():
        if isinstance(chunk, Exception):
            raise chunk
        yield chunk


async def _lines() -> AsyncIterator[bytes]:
    """The lines of standard input, without their ends."""
    parts: list[bytes] = []
    async for chunk in _chunks():
        first, *rest = chunk.split(b"\n")
        parts.append(first)
        for following in rest:
            yield b"".join(parts).removesuffix(b"\r")
            parts = [following]
        _check_size(parts)
    if any(parts):
        yield b"".join(parts)


async def _whole() -> bytes:
    """All of standard input."""
    parts: list[bytes] = []
    async for chunk in _chunks():
        parts.append(chunk)
        _check_size(parts)
    return b"".join(parts)


def _check_size(parts: Sequence[bytes]) -> None:
    """Do not gather what can never be sent."""
    if sum(map(len, parts)) > _LARGEST:
        raise fail(f"standard input: a message of more than {_LARGEST} bytes")


# --- pub ------------------------------------------------------------------------------------------


def publish(
    at: Resolved, name: str, topic: str, data: str, *, as_json: bool, whole: bool, count: int
) -> None:
    """Publish ``data`` (``-``: each line of standard input) ``count`` times, and wait for it."""
    run(_publish(at, name, topic, _messages(data, as_json=as_json, whole=whole), count, as_json))


async def _messages(data: str, *, as_json: bool, whole: bool) -> AsyncIterator[Any]:
    if data != _STDIN:
        yield _parse_data(data, as_json=as_json)
    elif whole:
        yield _parse(await _whole(), "standard input", as_json=as_json)
    else:
        number = 0
        async for line in _lines():
            number += 1
            yield _parse(line, f"line {number}", as_json=as_json)


async def _publish(
    at: Resolved, name: str, topic: str, messages: AsyncIterator[Any], count: int, as_json: bool
) -> None:
    published = 0
    async with joined(at, name) as channel:
        async for message in messages:
            for _ in range(count):
                await channel.publish(topic, message)
                published += 1
        left_out = await channel.flush()
        alone = not others(channel)
    if as_json:
        print_json({"published": published, "left_out": list(left_out)})
    else:
        print(f"{published} message{'s'[: published != 1]} published")
    if left_out:
        warn(f"left out, because they are out of touch: {', '.join(left_out)}")
    elif alone:
        warn(f"nobody else is on the bus of channel {name!r} in {at.path} ({at.why})")


# --- sub ------------------------------------------------------------------------------------------


def subscribe(
    at: Resolved,
    name: str,
    pattern: str,
    *,
    as_json: bool,
    group: str | None,
    count: int | None,
) -> None:
    """Print what is published to ``pattern``, until ``count`` messages are or Ctrl-C."""
    line = _json_line if as_json else _text_line
    run(_subscribe(at, name, pattern, line, group, count), ends_so=count is None)


async def _subscribe(
    at: Resolved,
    name: str,
    pattern: str,
    line: Callable[[Message], str],
    group: str | None,
    count: int | None,
) -> None:
    async with (
        joined(at, name) as channel,
        # One job in hand: what this one is slow to print, others can do.
        channel.subscribe(pattern, group=group, prefetch=1) as messages,
        while_read(),
    ):
        warn(f"subscribed to {pattern}")
        left = count
        while left is None or left > 0:
            taken = await _take(messages, min(_LINES, left or _LINES))
            await print_soon(partial(_printed, line, taken))
            _settle(taken)
            if left is not None:
                left -= len(taken)


def _printed(line: Callable[[Message], str], messages: Sequence[Message]) -> str:
    return "".join([f"{line(message)}\n" for message in messages])


async def _take(messages: Subscription, most: int) -> list[Message]:
    """The next message, and what has come with it; of a group one job.

    That is done when it is printed, and to ask for another would say so before.
    """
    taken = [await messages.get()]
    size = len(taken[0].body)
    while messages.group is None and len(taken) < most and size < _BYTES:
        message = messages.take()
        if message is None:
            break
        taken.append(message)
        size += len(message.body)
    return taken


def _settle(printed: Sequence[Message]) -> None:
    """Say what is to be said of messages beside themselves."""
    for message in printed:
        if message.missed:
            many = "some messages were" if message.missed < 0 else f"{message.missed} message(s)"
            warn(f"missed {many}, before the one to {message.topic}")
        if isinstance(message, Job):
            try:
                message.ack()
            except JobLost as error:
                warn(str(error))


def _text_line(message: Message) -> str:
    text = as_line(data_of(message))
    return f"{one_line(message.topic)} {text}" if text else one_line(message.topic)


def _json_line(message: Message) -> str:
    facts = {
        "topic": message.topic,
        "data": as_value(data_of(message)),
        "sender": message.sender,
        "missed": message.missed,
    }
    return json_line(facts | ({"redelivered": message.redelivered} if _is_job(message) else {}))


def _is_job(message: Message) -> bool:
    return isinstance(message, Job)


# --- req ------------------------------------------------------------------------------------------


def request(
    at: Resolved,
    name: str,
    topic: str,
    data: str,
    *,
    to: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Print the reply to one request; exit code 1 when there is none."""

    async def ask(channel: Channel, question: Any) -> None:
        try:
            reply = await channel.request(topic, question, to=to, timeout=timeout)
        except RequestError as error:
            raise fail(one_line(str(error))) from None
        except ValueError as error:
            if isinstance(error, ChannelError):
                raise
            raise fail(str(error)) from None  # `to` is no member's id
        await print_soon(lambda: f"{json_line(as_value(reply)) if as_json else as_line(reply)}\n")

    run(_ask(at, name, data, ask, as_json=as_json))


def request_all(
    at: Resolved, name: str, topic: str, data: str, *, timeout: float, as_json: bool
) -> None:
    """Print each reply and whose it is; exit code 1 when there is none, or an error among them."""

    async def ask(channel: Channel, question: Any) -> None:
        begun = time.monotonic()
        replies = await channel.request_all(topic, question, timeout=timeout)
        waited = time.monotonic() - begun
        errors = {who: reply for who, reply in replies.items() if isinstance(reply, Exception)}
        good = {who: reply for who, reply in replies.items() if who not in errors}
        if as_json:
            document = {who: {"reply": as_value(reply)} for who, reply in good.items()}
            document |= {who: {"error": str(error)} for who, error in errors.items()}
            await print_soon(f"{json.dumps(document, indent=2)}\n")
        else:
            lines = [f"{who} {as_line(reply)}".rstrip() for who, reply in good.items()]
            await print_soon("".join(f"{line}\n" for line in lines))
        for error in errors.values():
            warn(one_line(str(error)))
        if not replies and waited < timeout:  # it waits for whoever serves it
            raise fail(str(NoResponders(topic=topic)))
        if not replies:
            raise fail(f"no replies from {topic!r} within {timeout:g} s")
        if errors:
            raise fail(f"{len(errors)} of {len(replies)} failed")

    run(_ask(at, name, data, ask, as_json=as_json))


async def _ask(
    at: Resolved, name: str, data: str, ask: Callable[..., Any], *, as_json: bool
) -> None:
    if data == _STDIN:
        question = _parse(await _whole(), "standard input", as_json=as_json)
    else:
        question = _parse_data(data, as_json=as_json)
    async with visiting(at, name) as channel:
        await ask(channel, question)
