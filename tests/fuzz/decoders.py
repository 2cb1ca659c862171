"""Targets that turn bytes into things: frames, handshakes, batches, records, files."""

from __future__ import annotations

import functools
import re
from collections import Counter
from typing import Any

import msgspec

from open_channel.bus.core import records as r
from open_channel.bus.core.answers import decode_done, decode_reply
from open_channel.bus.core.mixed import count_topics, encode_mixed, parse_mixed
from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import BATCH_LIMIT, Message, drop_first, pack, unpack
from open_channel.protocol.control import (
    Hello,
    Refusal,
    Welcome,
    decode_hello,
    decode_refusal,
    decode_welcome,
    encode_hello,
    encode_refusal,
    encode_welcome,
)
from open_channel.protocol.frames import MAGIC, VERSION, Decoder, Frame, Kind
from open_channel.protocol.records import (
    HostRecord,
    MemberRecord,
    decode_host,
    decode_member,
    encode_record,
)
from tests.fuzz.chance import Chance
from tests.fuzz.engine import Broken, Step
from tests.fuzz.speech import BrokerSpeaker, Speaker, frame, hello, welcome

__all__ = ["Batches", "Files", "Frames", "Handshakes", "Records", "check", "reason_of"]

_MEMBERS = [bytes((number,)) * 16 for number in range(1, 5)]
_NUMBER = re.compile(r"[-+]?\d+|0x[0-9a-f]+|'[^']*'")
_EACH = 50  # inputs of a case: each stands for itself


def check(holds: object, what: str) -> None:
    if not holds:
        raise Broken(what)


class Frames:
    """The decoder: the same frames, or the same refusal, however the bytes come in pieces."""

    name = "frames"
    LIMIT = 4096

    def steps(self, chance: Chance) -> list[Step]:
        return [("stream", self._stream(chance), chance.getrandbits(32)) for _ in range(_EACH)]

    def _stream(self, chance: Chance) -> bytes:
        out = b""
        for _ in range(1 + int(chance.random() * 6)):
            kind = int(chance.random() * 10)
            payload = b"" if kind in {5, 6, 7, 8} else chance.blob(60)
            if chance.one_in(30):
                payload = bytes(chance.pick((self.LIMIT, self.LIMIT + 1, 2 * self.LIMIT)))
            ack = MAGIC if kind in {1, 2, 3} and not chance.one_in(8) else chance.number()
            one = frame(kind, chance.number(32), ack, payload, chance.number(8))
            if chance.one_in(12):
                one = chance.number(32).to_bytes(4, "little") + one[4:]
            out += one
        return chance.mutate(out) if chance.one_in(3) else out

    def play(self, steps: list[Step], refused: Counter[str]) -> int:
        for _, data, pieces in steps:
            whole = self._decode([data])
            one = self._decode(_cut(data, pieces))
            # What comes in one piece with what is refused is not looked at: the connection ends.
            check(whole[1] == one[1], "refused, or not, by how it comes")
            check(whole[0] == one[0][: len(whole[0])], "other frames from other pieces")
            check(whole[1] or whole[0] == one[0], "fewer frames from other pieces")
            if whole[1]:
                refused[reason_of(whole[1])] += 1
        return len(steps)

    def _decode(self, pieces: list[bytes]) -> tuple[list[Any], str]:
        decoder = Decoder(self.LIMIT)
        found: list[Any] = []
        try:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    room = decoder.get_buffer()
                    size = len(room)
                    check(0 < size <= 1 << 19, f"room to read {size} bytes into")
                    count = min(size, len(rest))
                    room[:count] = rest[:count]
                    rest = rest[count:]
                    while frames := decoder.received(count):
                        found += [(*f[:4], bytes(f.payload)) for f in frames]
                        if len(frames) > 1:
                            shakes = any(f.kind in {1, 2, 3} for f in frames[:-1])
                            check(not shakes, "a frame behind a handshake, with it")
                        count = 0
        except RemoteProtocolError as error:
            return found, str(error)
        return found, ""


def _cut(data: bytes, pieces: int) -> list[bytes]:
    out = []
    start = 0
    while start < len(data):
        size = 1 + pieces % 13 if pieces & 1 else 1 + pieces % 97
        pieces = (pieces * 1103515245 + 12345) % (1 << 32)
        out.append(data[start : start + size])
        start += size
    return out


@functools.lru_cache(1 << 12)  # most are told again and again
def reason_of(reason: str) -> str:
    """A reason without its numbers, of which there are too many to count."""
    return _NUMBER.sub("#", reason)[:50]


def decoded(data: bytes, limit: int = 1 << 20) -> Frame | None:
    """The first frame of some bytes, if there is one."""
    decoder = Decoder(limit)
    room = decoder.get_buffer()
    count = min(len(room), len(data))
    room[:count] = data[:count]
    frames = decoder.received(count)
    return frames[0] if frames else None


class Handshakes:
    """HELLO, WELCOME and REFUSAL: what is decoded is what its encoding decodes to."""

    name = "handshakes"

    def steps(self, chance: Chance) -> list[Step]:
        return [("handshake", self._one(chance)) for _ in range(_EACH)]

    def _one(self, chance: Chance) -> bytes:
        kind = int(chance.random() * 4)
        if kind == 0:
            return hello(chance, chance.randbytes(16), chance.number(), chance.number(), 0)
        if kind == 1:
            return welcome(chance, chance.number(), chance.number(), resumed=chance.one_in(2))
        if kind == 2:
            data = encode_refusal(Refusal("version", "é" * int(chance.random() * 9), 1, 2))
            return chance.mutate(data)
        code = 1 + int(chance.random() * 3)
        return frame(code, VERSION, MAGIC, chance.blob(100))

    def play(self, steps: list[Step], refused: Counter[str]) -> int:
        for _, data in steps:
            try:
                found = decoded(data)
                if found is not None:
                    self._decode(found)
            except RemoteProtocolError as error:
                refused[reason_of(str(error))] += 1
        return len(steps)

    @staticmethod
    def _decode(found: Frame) -> None:
        again: Hello | Welcome | Refusal
        if found.kind == Kind.HELLO:
            hello = decode_hello(found)
            check(len(hello.member) == 16, "the member's id")
            again = decode_hello(decoded(encode_hello(hello)) or found)
            check(again == hello, "another hello")
        elif found.kind == Kind.WELCOME:
            welcome = decode_welcome(found)
            check(welcome.hosting, "hosting 0")
            again = decode_welcome(decoded(encode_welcome(welcome)) or found)
            check(again == welcome, "another welcome")
        elif found.kind == Kind.REFUSAL:
            refusal = decode_refusal(found)
            again = decode_refusal(decoded(encode_refusal(refusal)) or found)
            check(again == refusal, "another refusal")


class Batches:
    """Payloads of MESSAGES: what is unpacked packs to the same bytes."""

    name = "batches"

    def steps(self, chance: Chance) -> list[Step]:
        return [("batch", *self._one(chance)) for _ in range(_EACH)]

    def _one(self, chance: Chance) -> tuple[bytes, int]:
        count = 1 + int(chance.random() * 12)
        if chance.one_in(3):
            size = int(chance.random() * 30)
            bodies = [bytes(size)] * count
        else:
            bodies = [chance.blob() for _ in range(count)]
        data = pack(bodies)
        if chance.one_in(40):
            data += bytes(BATCH_LIMIT - len(data) + chance.pick((0, 1)))
        if chance.one_in(2):
            data = chance.mutate(data)
        if chance.one_in(4):
            count = chance.pick((0, 1, count + 1, count - 1, chance.number(32)))
        return data, count

    def play(self, steps: list[Step], refused: Counter[str]) -> int:
        for _, data, count in steps:
            try:
                bodies = unpack(memoryview(data), count)
            except RemoteProtocolError as error:
                refused[reason_of(str(error))] += 1
                continue
            check(len(bodies) == count, "another number of messages")
            check(all(type(body) is bytes for body in bodies), "views of the buffer")
            check(pack(bodies) == data, "other bytes")
            if count > 1:
                check(unpack(drop_first(data, count, 1), count - 1) == bodies[1:], "the rest")
        return len(steps)


class Records:
    """Records of the bus: whatever they say, they decode or are refused."""

    name = "records"

    def steps(self, chance: Chance) -> list[Step]:
        kind = Speaker if chance.one_in(2) else BrokerSpeaker
        speaker = kind(chance, _MEMBERS[0], _MEMBERS[1:])
        return [("record", speaker.record()) for _ in range(_EACH)]

    def play(self, steps: list[Step], refused: Counter[str]) -> int:
        for _, record in steps:
            for decode in (
                _publication,
                _mixed,
                _job,
                _ack,
                _control,
                decode_done,
                decode_reply,
            ):
                try:
                    decode(record)
                except RemoteProtocolError as error:
                    refused[reason_of(str(error))] += 1
        return len(steps)


def _publication(record: Message) -> None:
    publication = r.parse(record)
    again = r.parse(r.mark_resent(record))
    same = again._replace(record=record, data=publication.data, flags=0)
    check(same == publication._replace(flags=0), "resent")
    check(again.flags & r.RESENT, "not marked")
    bodies = publication.messages()
    check(len(bodies) == publication.total, "another number of messages")
    _, _, flags, topic, _, first, _, sender, to, _ = publication
    made = r.encode_publication(record[0], flags, topic.encode(), first, sender, to, bodies)
    check(bytes(made) == bytes(record), "other bytes")
    # Both are numbers on the wire, and so is all that is made of them.
    check(0 < publication.first <= publication.last < 1 << 63, "numbers that do not fit")


def _mixed(record: bytes) -> None:
    mixed = parse_mixed(record)
    again = parse_mixed(r.mark_resent(record))
    check(again.flags == mixed.flags | r.RESENT, "not marked")
    check(0 < mixed.first <= mixed.last < 1 << 63, "numbers that do not fit")
    check(set(mixed.which) == set(range(len(mixed.topics))), "topics without messages")
    bodies = mixed.messages()
    check(len(bodies) == mixed.total == len(mixed.which), "another number of messages")
    check(sum(count_topics(record).values()) == mixed.total, "other counts")
    parts = [mixed.only([index]) for index in range(len(mixed.topics))]
    check(sum(part.total for part in parts) == mixed.total, "messages of no part")
    for part in parts:
        found = parse_mixed(part.record)
        numbers = found.first, found.last, found.sender, found.flags
        check(numbers == (mixed.first, mixed.last, mixed.sender, mixed.flags), "other numbers")
        check(found.messages() == part.messages() and found.which == part.which, "other messages")
    if mixed.total == mixed.last - mixed.first + 1 and len(set(mixed.topics)) == len(mixed.topics):
        topics = [mixed.topics[index].encode() for index in mixed.which]
        made = encode_mixed(mixed.flags, topics, mixed.first, mixed.sender, bodies)
        check(len(made) == len(record), "other bytes")  # the table may be in another order


def _job(record: bytes) -> None:
    job = r.decode_job(record)
    _publication(job.publication.record)


def _ack(record: bytes) -> None:
    ranges = r.decode_ack(record)
    check(r.encode_ack(ranges)[8:] == record[8:], "other ranges")


def _control(record: bytes) -> None:
    control = r.decode_control(record)
    check(r.decode_control(r.encode_control(control)) == control, "another record")


class Files:
    """Records in files: a whole record or none, and never an error."""

    name = "files"
    _HOST = HostRecord("shop", "broker", 7, 3, "k.b.7", 12, "0" * 32, 1.5, 1.0)
    _MEMBER = MemberRecord("shop", "0" * 32, 12, 1.5, True, True, {"role": "web"})

    def steps(self, chance: Chance) -> list[Step]:
        return [("file", self._one(chance)) for _ in range(_EACH)]

    def _one(self, chance: Chance) -> bytes:
        record = self._HOST if chance.one_in(2) else self._MEMBER
        if chance.one_in(2):
            return chance.mutate(encode_record(record))
        fields: dict[str, Any] = record._asdict()
        for _ in range(1 + int(chance.random() * 2)):
            value = chance.odd()
            fields[chance.pick(list(fields))] = _as_json(value)
        content = msgspec.json.encode(fields) + b"\n"
        return b"[" * 5000 + content if chance.one_in(60) else content

    def play(self, steps: list[Step], refused: Counter[str]) -> int:
        for _, content in steps:
            host, member = decode_host(content), decode_member(content)
            if host is None and member is None:
                refused["no record"] += 1
            if host is not None:
                check("/" not in host.socket, "a socket elsewhere")
                check(0 < host.epoch < 2**64 - 1, "an epoch with no next")
                check(decode_host(encode_record(host)) == host, "another record")
            if member is not None:
                # A broker takes the id of whoever is present for bytes.
                check(len(bytes.fromhex(member.member)) == 16, "an id that is none")
                check(decode_member(encode_record(member)) == member, "another record")
        return len(steps)


def _as_json(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
