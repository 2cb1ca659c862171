"""The kernel's word on who is there, and that another user's process is refused on both sides."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from open_channel import ForeignUser, Limits, open_channel
from open_channel.io.credentials import credentials
from open_channel.protocol.control import Hello, Refusal, decode_refusal, encode_hello
from open_channel.protocol.frames import Decoder, Kind
from open_channel.protocol.records import HostRecord, encode_record
from tests.integration.members import files, record, start
from tests.processes import Processes

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# Connects as the user given, sends what stands in the second argument, prints what comes back.
STRANGER = """
import json, os, socket, sys
path, uid, data = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
os.setgid(uid)
os.setuid(uid)
with socket.socket(socket.AF_UNIX) as sock:
    sock.settimeout(10)
    sock.connect(path)
    sock.sendall(data)
    answer = b""
    while part := sock.recv(65536):
        answer += part
print(json.dumps({"answer": answer.hex()}))
"""

# Binds as root, listens as the user given, and never answers.
IMPOSTOR = """
import json, os, socket, sys
path, uid = sys.argv[1], int(sys.argv[2])
with socket.socket(socket.AF_UNIX) as sock:
    sock.bind(path)
    os.setgid(uid)
    os.setuid(uid)
    sock.listen()
    print(json.dumps({"listens": True}), flush=True)
    sys.stdin.read()
"""


def test_both_ends_of_a_pair() -> None:
    left, right = socket.socketpair()
    with left, right:
        assert credentials(left) == credentials(right) == (os.getpid(), os.getuid())


def test_a_closed_socket() -> None:
    left, right = socket.socketpair()
    left.close()
    right.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        credentials(left)


@AS_ROOT
def test_a_foreign_process_is_refused_by_the_host(channel_dir: Path, processes: Processes) -> None:
    host = start(processes)
    host.connected(host.pid)
    path = files(channel_dir).path(record(channel_dir).socket)
    channel_dir.chmod(0o711)  # as if somebody had opened it since
    os.chmod(path, 0o777)
    hello = encode_hello(Hello("l", bytes(16), 1, 0, 0, 1 << 20, 1 << 20))
    stranger = processes("-c", STRANGER, path, NOBODY, hello.hex())
    refusal = refusal_in(bytes.fromhex(stranger.expect("answer")["answer"]))
    assert (refusal.code, refusal.ours, refusal.theirs) == ("user", 0, NOBODY)
    assert host.state()["state"] == "connected"
    assert f"user {NOBODY}" in host.errors()
    assert len(host.errors().splitlines()) == 1


def refusal_in(answer: bytes) -> Refusal:
    decoder = Decoder()
    decoder.get_buffer()[: len(answer)] = answer
    (frame,) = decoder.received(len(answer))
    assert frame.kind == Kind.REFUSAL
    return decode_refusal(frame)


@AS_ROOT
async def test_a_foreign_host_is_not_talked_to(channel_dir: Path, processes: Processes) -> None:
    found = files(channel_dir)
    name = found.socket("l", 7)
    impostor = processes("-c", IMPOSTOR, found.path(name), NOBODY)
    impostor.expect("listens")
    known: dict[str, Any] = {
        "name": "chat",
        "service": "listener",
        "hosting": 7,
        "epoch": 1,
        "socket": name,
        "pid": impostor.pid,
        "member": "0" * 32,
        "since": 1.0,
        "heartbeat": 1.0,
        "lineage": 7,
    }
    content = encode_record(HostRecord(**{f: known[f] for f in HostRecord._fields}))
    Path(found.lock("l")).write_bytes(content)
    channel = open_channel("chat", limits=Limits())
    with pytest.raises(ForeignUser) as caught:
        await channel.connect().wait_connected()
    assert (caught.value.ours, caught.value.theirs) == (0, NOBODY)
    assert isinstance(caught.value, PermissionError)
    assert channel.state == "closed"
