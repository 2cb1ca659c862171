"""What was published, in print: a line of text, or a value for JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, cast

from open_channel.errors import PayloadInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_channel.bus.message import Message

__all__ = ["as_line", "as_value", "data_of", "json_line", "one_line", "print_soon"]


def data_of(message: Message) -> Any:
    """What a message carries; its bytes when nobody can decode them."""
    try:
        return message.data
    except PayloadInvalid:
        return message.body


# --- for people -----------------------------------------------------------------------------------


def as_line(data: object) -> str:
    """Text as it is, bytes that are no text as \\x.., anything else as JSON; always one line."""
    if isinstance(data, bytes):
        try:
            return one_line(data.decode())
        except UnicodeDecodeError:
            return repr(data)[2:-1]
    return one_line(data if isinstance(data, str) else _compact(as_value(data), ascii_only=False))


class _Escapes(dict[int, str]):
    """What stands for a character in print, by its number; filled as they come."""

    def __missing__(self, number: int) -> str:
        character = chr(number)
        if character != "\t" and not character.isprintable():
            character = character.encode("unicode_escape").decode()
        self[number] = character
        return character


_ESCAPES = _Escapes()


def one_line(text: str) -> str:
    """What is not printable is escaped, but for tabs: a message cannot command a terminal."""
    return text if text.isprintable() else text.translate(_ESCAPES)


# --- for programs ---------------------------------------------------------------------------------


def json_line(value: object) -> str:
    """JSON in one line and in ASCII, which no terminal and no encoding can misunderstand."""
    return _compact(value, ascii_only=True)


def _compact(value: object, *, ascii_only: bool) -> str:
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))


def as_value(data: object) -> Any:
    """Something that JSON can carry: bytes become text, or {"base64": ...} where they are none."""
    try:
        return _value(data)
    except RecursionError:
        return "(nested too deeply)"


def _value(data: object) -> Any:
    match data:
        case None | bool() | int() | str():
            return data
        case float():
            return data if math.isfinite(data) else str(data)
        case bytes():
            try:
                return data.decode()
            except UnicodeDecodeError:
                return {"base64": base64.b64encode(data).decode()}
        case dict():
            pairs = cast("dict[object, object]", data).items()
            return {_key(key): _value(value) for key, value in pairs}
        case list() | tuple():
            return [_value(item) for item in cast("list[object]", data)]
        case _:
            return str(data)  # times and MessagePack's extensions


def _key(key: object) -> str:
    return key if isinstance(key, str) else as_line(key)


# --- on its way -----------------------------------------------------------------------------------


async def print_soon(text: Callable[[], str] | str) -> None:
    """Print a text, or what ``text()`` returns, and wait for it.

    Whoever reads this may be slow, and a text may be long to make: both happen in a thread that
    nobody waits for at the end. So the channel does not take this member for one that is out of
    touch, and Ctrl-C ends it while nobody reads.

    Raises OSError, such as BrokenPipeError. When it is cancelled the text may be printed in part.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def work() -> None:
        error: Exception | None = None
        try:
            # Not by sys.stdout: its lock would keep the interpreter from ending.
            made = text if isinstance(text, str) else text()
            rest = memoryview(made.encode(sys.stdout.encoding, "backslashreplace"))
            while rest:
                rest = rest[os.write(sys.stdout.fileno(), rest) :]
        except Exception as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, error)

    def tell(error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    threading.Thread(target=work, name="open-channel print", daemon=True).start()
    await done
