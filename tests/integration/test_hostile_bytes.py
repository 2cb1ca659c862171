"""Hostile bytes: each bad connection ends by itself, and nobody else notices."""

from __future__ import annotations

import os
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from open_channel.protocol.batches import pack
from open_channel.protocol.control import Hello, decode_refusal, encode_hello
from open_channel.protocol.frames import (
    HEADER,
    MAGIC,
    SHARED,
    VERSION,
    Decoder,
    Frame,
    Kind,
    encode,
)
from open_channel.protocol.shared import Offer, Place
from tests.integration.members import (
    QUICK,
    Member,
    agree,
    all_handled,
    files,
    handled,
    record,
    start,
)
from tests.processes import Processes, wait_for

WINDOW = 4 << 20
AT_ONCE = 20


def hello(member: bytes, counter: int = 1, service: str = "l", window: int = WINDOW) -> bytes:
    return encode_hello(Hello(service, member, counter, 0, 0, window, 1 << 20))


def messages(*bodies: bytes) -> bytes:
    return encode(Kind.MESSAGES, len(bodies), 0, pack(list(bodies)))


def told(place: Place, head: bytes) -> bytes:
    """A message that is said to lie in shared memory."""
    payload = place.told(head)
    return HEADER.pack(len(payload), Kind.MESSAGES, SHARED, 1, 0) + payload


def noise(seed: int, size: int) -> bytes:
    """Random bytes; the fifth is no kind of frame, so that they cannot be a beginning of one."""
    data = bytearray(random.Random(seed).randbytes(size))
    data[4] |= 0x80
    return bytes(data)


class Attack(NamedTuple):
    """What is sent, after a good hello or instead of it, and what is expected to come of it."""

    data: bytes
    welcomed: bool = False
    refusal: str = ""
    logged: bool = True


ATTACKS = {
    "noise": Attack(noise(1, 4096)),
    "long noise": Attack(noise(2, 1 << 20)),
    "zeros": Attack(bytes(4096)),
    "http": Attack(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "nothing": Attack(b"", logged=False),
    "part of a header": Attack(hello(bytes(16))[:11], logged=False),
    "part of a hello": Attack(hello(bytes(16))[:-1], logged=False),
    "a hello of 4 GiB": Attack(HEADER.pack(2**32 - 1, Kind.HELLO, 0, VERSION, MAGIC)),
    "a hello over the cap": Attack(HEADER.pack(64 * 1024 + 1, Kind.HELLO, 0, VERSION, MAGIC)),
    "messages of 4 GiB": Attack(HEADER.pack(2**32 - 1, Kind.MESSAGES, 0, 1, 0)),
    "a hello without the magic number": Attack(encode(Kind.HELLO, VERSION, 7, bytes(64))),
    "a short hello": Attack(encode(Kind.HELLO, VERSION, MAGIC, bytes(8))),
    "a hello with no window": Attack(hello(bytes(16), window=0)),
    "another version": Attack(encode(Kind.HELLO, 99, MAGIC, b"?"), refusal="version"),
    "another service": Attack(hello(bytes(16), service="x"), refusal="service"),
    "messages before a hello": Attack(messages(b"early")),
    "a ping before a hello": Attack(encode(Kind.PING)),
    "a welcome": Attack(encode(Kind.WELCOME, VERSION, MAGIC, bytes(200))),
    "a second hello": Attack(hello(bytes(16), counter=2), welcomed=True),
    "noise later": Attack(noise(3, 4096), welcomed=True),
    "an absurd length later": Attack(
        HEADER.pack(2**31, Kind.MESSAGES, 0, 1, 0) + bytes(100), welcomed=True
    ),
    "an acknowledgement of what was not sent": Attack(encode(Kind.ACK, 0, 12345), welcomed=True),
    "messages after the end": Attack(encode(Kind.END, 1) + messages(b"late"), welcomed=True),
    "an end with a payload": Attack(encode(Kind.END, 1, 0, b"x"), welcomed=True),
    "no messages": Attack(encode(Kind.MESSAGES, 0), welcomed=True),
    "fewer messages than it says": Attack(
        encode(Kind.MESSAGES, 9, 0, pack([b"one"])), welcomed=True
    ),
    "more messages than it says": Attack(
        encode(Kind.MESSAGES, 1, 0, pack([b"one", b"two"])), welcomed=True
    ),
    "more than the window": Attack(
        messages(b"slow") + messages(bytes(3 << 20)) + messages(bytes(3 << 20)), welcomed=True
    ),
    "part of a message": Attack(messages(b"whole", b"part")[:-2], welcomed=True, logged=False),
    "an offer that is cut off": Attack(encode(Kind.OFFER, 0, 0, bytes(23)), welcomed=True),
    "an offer of what is not there, and then of more": Attack(
        2 * encode(Kind.OFFER, 0, 0, Offer(0, 2**32 - 1, 4096, 7).encode())
        + told(Place(7, 64, 1 << 19, 7), b"head"),
        welcomed=True,
    ),
    "a message in memory that was not offered": Attack(
        told(Place(7, 64, 1 << 19, 7), b"head"), welcomed=True
    ),
    "an offer that is taken without a name": Attack(encode(Kind.TAKEN), welcomed=True),
    "an offer that is withdrawn without a name": Attack(encode(Kind.WITHDRAWN), welcomed=True),
    "what was not offered is taken": Attack(
        encode(Kind.TAKEN, 0, 0, bytes(8)) + encode(Kind.ACK, 0, 12345), welcomed=True
    ),
    "what was not offered is withdrawn": Attack(
        encode(Kind.WITHDRAWN, 0, 0, bytes(8)) + encode(Kind.ACK, 0, 12345), welcomed=True
    ),
    "what was not lent is held": Attack(encode(Kind.HOLDING, 0, 0, bytes(8)), welcomed=True),
    "a goodbye and more": Attack(encode(Kind.GOODBYE) + noise(4, 100), welcomed=True),
}


def frames_in(data: bytes) -> list[Frame]:
    decoder = Decoder(1 << 30)
    buffer = decoder.get_buffer()
    assert len(data) <= len(buffer)
    buffer[: len(data)] = data
    return decoder.received(len(data))


def attack(path: str, what: Attack) -> str:
    """Do it; return the code of the refusal, if one came. It ends when the host closes it."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(15)
        sock.connect(path)
        answer = b""
        try:
            if what.welcomed:
                sock.sendall(hello(os.urandom(16)))
                answer = sock.recv(4096)
                (welcome,) = frames_in(answer)
                assert welcome.kind == Kind.WELCOME
                answer = b""
            sock.sendall(what.data)
            if not what.logged:
                sock.shutdown(socket.SHUT_WR)
            while part := sock.recv(65536):
                answer += part
        except (ConnectionResetError, BrokenPipeError):
            pass  # the host did not read the rest
    if not what.refusal:
        return ""
    (frame,) = frames_in(answer)
    assert frame.kind == Kind.REFUSAL
    return decode_refusal(frame).code


def resident(pid: int) -> int:
    """The bytes of memory that a process has in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def host(channel_dir: Path, processes: Processes) -> Member:
    host = start(processes, slow=0.3)
    host.connected(host.pid)
    return host


def socket_path(directory: Path) -> str:
    return files(directory).path(record(directory).socket)


@pytest.mark.parametrize("name", ATTACKS)
def test_each_ends_with_one_record(channel_dir: Path, host: Member, name: str) -> None:
    what = ATTACKS[name]
    assert attack(socket_path(channel_dir), what) == what.refusal
    host.do("write", "unharmed")
    host.expect_replies(["unharmed"])
    lines = host.errors().splitlines()
    assert len(lines) == int(what.logged), lines
    assert all(line.startswith("WARNING") and f"pid {os.getpid()}" in line for line in lines)
    assert not any("Traceback" in line for line in lines)


def test_all_of_them_at_once_beside_a_good_client(
    channel_dir: Path, processes: Processes, host: Member
) -> None:
    client = start(processes, listens=False)
    client.connected(host.pid)
    client.do("stream", 1, 3000, 0.001)
    wait_for(lambda: len(client.replies()) > 10, "the stream flows")
    path = socket_path(channel_dir)
    attacks = list(ATTACKS.values())
    before = resident(host.pid)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(4):
            answers = list(pool.map(lambda what: attack(path, what), attacks * 2))
            assert answers == [what.refusal for what in attacks] * 2
            # Soon, and not at the next garbage collection, as far as that may be away: what the
            # slow listeners still have in hand goes when they have come back for the next.
            wait_for(lambda: resident(host.pid) - before < 8 << 20, "its memory is free again")
    client.expect_replies(range(1, 3001))
    numbers = [e["handled"] for e in all_handled([host]) if e["sender"] == client.pid]
    assert numbers == [str(number) for number in range(1, 3001)]
    assert not [event for event in client.events if "lost" in event]
    assert agree([host]) == host.pid
    lines = host.errors().splitlines()
    assert len(lines) == 8 * sum(what.logged for what in attacks)
    assert client.errors() == ""


def test_a_stale_counter_is_refused(channel_dir: Path, host: Member) -> None:
    path, member = socket_path(channel_dir), os.urandom(16)
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for sock, counter in ((first, 5), (second, 5)):
            sock.settimeout(10)
            sock.connect(path)
            sock.sendall(hello(member, counter))
        (frame,) = frames_in(first.recv(4096))
        assert frame.kind == Kind.WELCOME
        (frame,) = frames_in(second.recv(4096))
        assert decode_refusal(frame).code == "stale"
        assert second.recv(10) == b""
        first.sendall(messages(b"still good"))
        host.wait(lambda events: handled([host], "still good"), "it is handled")
    assert host.errors() == ""


def test_who_says_nothing_is_not_waited_for_for_ever(
    channel_dir: Path, processes: Processes
) -> None:
    host = start(processes, limits=QUICK, handshake=0.5)
    host.connected(host.pid)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.settimeout(20)
        silent.connect(socket_path(channel_dir))
        assert silent.recv(10) == b""
    assert host.state()["state"] == "connected"
