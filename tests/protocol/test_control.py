"""Control messages: what was encoded comes out, and what makes no sense is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_channel.errors import RemoteProtocolError
from open_channel.protocol import control
from open_channel.protocol.control import Hello, Refusal, Welcome
from open_channel.protocol.frames import HANDSHAKE_LIMIT, MAGIC, VERSION, Frame, Kind, encode
from open_channel.protocol.limits import Limits
from tests.protocol.verbs import WAYS, decode, whole

HELLO = Hello("l", bytes(range(16)), 3, 2**64 - 1, 12, 1024, 0, b"snapshot")
WELCOME = Welcome(2**64 - 1, 7, bytes(16), 4711, True, 12, 4096, 2**31, b"snapshot")
REFUSAL = Refusal("version", "too old, alas: ü", 2, 1)


def frame_of(data: bytes) -> Frame:
    (plain,) = decode(whole(data), HANDSHAKE_LIMIT)
    return Frame(*plain[:4], memoryview(plain.payload))


def frame(kind: int, payload: bytes) -> Frame:
    return frame_of(encode(kind, VERSION, MAGIC, payload))


def hello_again(hello: Hello) -> Hello:
    return control.decode_hello(frame_of(control.encode_hello(hello)))


def welcome_again(welcome: Welcome) -> Welcome:
    return control.decode_welcome(frame_of(control.encode_welcome(welcome)))


def refusal_again(refusal: Refusal) -> Refusal:
    return control.decode_refusal(frame_of(control.encode_refusal(refusal)))


# --- round trips ----------------------------------------------------------------------------------

EACH = [
    (HELLO, control.encode_hello, control.decode_hello),
    (WELCOME, control.encode_welcome, control.decode_welcome),
    (REFUSAL, control.encode_refusal, control.decode_refusal),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("message", "encode", "decode_it"), EACH)
def test_each_arrives_whole_and_in_the_present_version(message, encode, decode_it, way):
    (plain,) = decode(way(encode(message)), HANDSHAKE_LIMIT)
    arrived = Frame(*plain[:4], memoryview(plain.payload))
    assert control.version_of(arrived) == VERSION
    assert decode_it(arrived) == message


def test_a_snapshot_may_be_empty():
    assert hello_again(HELLO._replace(snapshot=b"")).snapshot == b""
    assert welcome_again(WELCOME._replace(snapshot=b"")).snapshot == b""


def test_resumed_is_a_bool():
    assert welcome_again(WELCOME).resumed is True
    assert welcome_again(WELCOME._replace(resumed=False)).resumed is False


@pytest.mark.parametrize("code", control.REFUSED_FOR)
def test_every_reason_to_refuse_arrives(code):
    assert refusal_again(Refusal(code, "")) == Refusal(code, "", 0, 0)


numbers = st.integers(0, 2**64 - 1)
windows = st.integers(1024, 2**64 - 1)
ids = st.binary(min_size=16, max_size=16)
snapshots = st.binary(max_size=100)


@given(
    st.builds(
        Hello, st.sampled_from("lb"), ids, numbers, numbers, numbers, windows, numbers, snapshots
    )
)
def test_any_hello_arrives(hello):
    assert hello_again(hello) == hello


@given(
    st.builds(
        Welcome,
        st.integers(1, 2**64 - 1),
        numbers,
        ids,
        st.integers(0, 2**32 - 1),
        st.booleans(),
        numbers,
        windows,
        numbers,
        snapshots,
    )
)
def test_any_welcome_arrives(welcome):
    assert welcome_again(welcome) == welcome


@given(
    st.builds(
        Refusal,
        st.sampled_from(control.REFUSED_FOR),
        st.text("a \0ü€😀", max_size=50),
        numbers,
        numbers,
    )
)
def test_any_refusal_arrives(refusal):
    assert refusal_again(refusal) == refusal


# --- what is refused ------------------------------------------------------------------------------

DECODERS = [
    (Kind.HELLO, control.decode_hello, control.encode_hello(HELLO._replace(snapshot=b""))),
    (
        Kind.WELCOME,
        control.decode_welcome,
        control.encode_welcome(WELCOME._replace(snapshot=b"")),
    ),
    (Kind.REFUSAL, control.decode_refusal, control.encode_refusal(REFUSAL._replace(reason=""))),
]
each_decoder = pytest.mark.parametrize(("kind", "decode_it", "shortest"), DECODERS)


@each_decoder
def test_one_that_is_too_short_is_refused(kind, decode_it, shortest):
    payload = bytes(frame_of(shortest).payload)
    for length in range(len(payload)):
        with pytest.raises(RemoteProtocolError, match=f"{kind.name} of {length} bytes"):
            decode_it(frame(kind, payload[:length]))


@each_decoder
@given(payload=st.binary(max_size=200))
def test_garbage_is_refused_and_breaks_nothing(kind, decode_it, shortest, payload):
    try:
        decode_it(frame(kind, payload))
    except RemoteProtocolError:
        return
    assert len(payload) >= len(frame_of(shortest).payload)


@pytest.mark.parametrize("window", [0, 1023])
def test_a_window_that_holds_nothing_is_refused(window):
    with pytest.raises(RemoteProtocolError, match=f"HELLO with a window of {window} bytes"):
        hello_again(HELLO._replace(window=window))
    with pytest.raises(RemoteProtocolError, match=f"WELCOME with a window of {window} bytes"):
        welcome_again(WELCOME._replace(window=window))


def test_a_welcome_of_no_hosting_is_refused():
    with pytest.raises(RemoteProtocolError, match="hosting 0"):
        welcome_again(WELCOME._replace(hosting=0))


@pytest.mark.parametrize(
    "limits",
    [
        Limits(window=1024),
        Limits(window=2**62, outbox=2**62),
        Limits(max_message=0),
        Limits(max_message=2**31),
    ],
    ids=repr,
)
def test_whatever_the_limits_allow_is_welcome(limits):
    welcome = WELCOME._replace(window=limits.window, max_message=limits.max_message)
    assert welcome_again(welcome) == welcome
    hello = HELLO._replace(window=limits.window, max_message=limits.max_message)
    assert hello_again(hello) == hello


def test_a_refusal_for_a_reason_we_do_not_know_is_one_for_another():
    payload = bytearray(frame_of(control.encode_refusal(REFUSAL)).payload)
    payload[0] = len(control.REFUSED_FOR)
    assert control.decode_refusal(frame(Kind.REFUSAL, bytes(payload))).code == "other"


def test_a_reason_that_is_no_text_is_still_shown():
    payload = bytes(frame_of(control.encode_refusal(REFUSAL._replace(reason=""))).payload)
    assert control.decode_refusal(frame(Kind.REFUSAL, payload + b"no \xff")).reason == "no \ufffd"
