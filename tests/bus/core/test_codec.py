"""Payloads: bytes untouched, the rest as MessagePack, checked against a type where one is given."""

from __future__ import annotations

import contextlib
import datetime
import enum
import pickle
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_channel.bus.core import codec
from open_channel.bus.core.codec import decode, encode
from open_channel.errors import PayloadInvalid


@dataclass
class Item:
    sku: int
    count: int = 1


class Order(msgspec.Struct):
    id: int
    items: list[Item]


class Stats(TypedDict):
    load: float


class Colour(enum.Enum):
    RED = "red"


class Even(msgspec.Struct):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError(f"{self.number} is odd")


def received(data: object, kind: Any = None) -> Any:
    """What a receiver gets of what a sender gave."""
    return decode(*encode(data), kind, "orders.eu", "pid 7")


def refused(body: bytes, kind: Any = None, *, encoded: bool = True) -> str:
    """The reason why it is refused."""
    with pytest.raises(PayloadInvalid) as caught:
        decode(body, encoded, kind, "orders.eu", "pid 7")
    error = caught.value
    assert (error.topic, error.sender) == ("orders.eu", "pid 7")
    assert str(error) == f"payload on topic 'orders.eu' from pid 7: {error.reason}"
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)
    return error.reason


# --- bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"x" * 100_000])
def test_bytes_pass_untouched(body: bytes):
    assert encode(body) == (body, False)
    assert encode(body)[0] is body
    assert decode(body, False, None, "t", "") is body
    assert decode(body, False, bytes, "t", "") is body


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_what_may_change_is_copied(kind):
    source = bytearray(b"abc")
    body, encoded = encode(kind(source))
    source[:] = b"xyz"
    assert (body, encoded, type(body)) == (b"abc", False, bytes)


def test_a_view_with_gaps():
    assert encode(memoryview(b"abcdef")[::2]) == (b"ace", False)


def test_bytes_are_taken_for_messagepack_when_a_type_is_given():
    body = msgspec.msgpack.encode({"sku": 3})
    assert decode(body, False, Item, "t", "") == Item(3)
    assert decode(body, False, dict, "t", "") == {"sku": 3}
    assert "malformed" in refused(b"\xc1", Item, encoded=False)


def test_a_type_is_checked_before_there_is_data():
    fit: list[Any] = [None, int, Item, list[Item]]
    for kind in fit:
        codec.check_type(kind)
    misfit: list[Any] = [5, "int", {}]
    for kind in misfit:
        with pytest.raises(TypeError):
            codec.check_type(kind)


# --- everything else ------------------------------------------------------------------------------

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text("abcü"), inner, max_size=5),
    max_leaves=20,
)


@given(plain.filter(lambda data: not isinstance(data, bytes)))
def test_plain_data_comes_back(data):
    body, encoded = encode(data)
    assert encoded
    assert decode(body, True, None, "t", "") == data


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (Order(7, [Item(1), Item(2, 3)]), Order),
        (Item(5), Item),
        ({"load": 0.5}, Stats),
        (7, int),
        ([1, 2], list[int]),
        ("text", str),
        (None, int | None),
        (Colour.RED, Colour),
        (uuid.UUID(int=5), uuid.UUID),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), datetime.datetime),
        (Even(2), Even),
    ],
)
def test_data_comes_back_in_its_type(data, kind):
    assert received(data, kind) == data


def test_without_a_type_it_is_plain_data():
    assert received(Order(7, [Item(1)])) == {"id": 7, "items": [{"sku": 1, "count": 1}]}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (object(), "object is unsupported"),
        (2**64, "can't serialize ints"),
        ("\ud800", "surrogates not allowed"),
        ({1: {2: object}}, "unsupported"),
    ],
)
def test_what_cannot_be_encoded(data, reason):
    with pytest.raises(PayloadInvalid, match=reason) as caught:
        encode(data, "orders.eu")
    assert caught.value.topic == "orders.eu"
    assert caught.value.sender == "this process"
    assert isinstance(caught.value, ValueError)


def test_what_holds_itself():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(PayloadInvalid, match=r"recursion|overflow"):  # 3.14 says it otherwise
        encode(endless)


# --- misfits --------------------------------------------------------------------------------------


def test_a_misfit_says_where():
    body, _ = encode({"id": 7, "items": [{"sku": 1}, {"sku": "x"}]})
    assert refused(body, Order) == "Expected `int`, got `str` - at `$.items[1].sku`"
    assert "Expected `int`" in refused(encode("x")[0], int)
    assert "missing required field `items`" in refused(encode({"id": 7})[0], Order)
    assert ">= 0" in refused(encode(-1)[0], Annotated[int, msgspec.Meta(ge=0)])
    assert "3 is odd" in refused(encode({"number": 3})[0], Even)


@pytest.mark.parametrize("kind", [None, Order, list])
@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", b"\x01\x02", b"\x91", b"\xa1\xff", b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000],
)
def test_garbage(body: bytes, kind):
    assert refused(body, kind)


@given(st.binary(max_size=64))
def test_any_bytes_are_decoded_or_refused(body: bytes):
    with contextlib.suppress(PayloadInvalid):
        decode(body, True, None, "t", "")


def test_no_reason_is_empty():
    assert codec._reason(RecursionError()) == "RecursionError"


def test_a_type_that_nothing_can_be_decoded_into():
    with pytest.raises(TypeError):
        decode(b"\x01", True, list[Item] | list[int], "t", "")


# --- cost -----------------------------------------------------------------------------------------


def test_a_types_decoder_is_made_once(monkeypatch: pytest.MonkeyPatch):
    codec._decoder.cache_clear()
    made: list[object] = []
    decoder = msgspec.msgpack.Decoder

    def counting(kind):
        made.append(kind)
        return decoder(kind)

    monkeypatch.setattr(msgspec.msgpack, "Decoder", counting)
    for _ in range(3):
        assert received({"sku": 1}, Item) == Item(1)
        assert received([1], list[int]) == [1]
        assert received([1]) == [1]
    assert made == [Item, list[int], Any]


def test_sockets_and_locks_do_without_msgspec(channel_dir: Path):
    program = """if True:
        import asyncio
        import sys
        from open_channel import open_channel

        def listen(socket):
            socket.write(b"x")

        async def main():
            channel = open_channel("shop", listen)
            assert await channel.connect().read() == b"x"
            async with channel.lock("door"):
                assert "msgspec" not in sys.modules
            await channel.publish("t")
            assert "msgspec" in sys.modules
            await channel.close()

        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", program], check=True)
