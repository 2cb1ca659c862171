"""Records: a reader finds a whole record or none."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_channel.protocol.records import (
    HostRecord,
    MemberRecord,
    decode_host,
    decode_member,
    encode_record,
    is_member_id,
)

HOST = HostRecord("chat ü", "listener", 2**64 - 1, 3, "a1b2.s.17", 4711, "00ff" * 8, 1.7e9, 0.5, 9)
LABELS = {"role": "mailer ü", "": ""}
MEMBER = MemberRecord("chat ü", "00ff" * 8, 4711, 1.7e9, True, True, LABELS)
BOTH: list[tuple[Any, Any]] = [(HOST, decode_host), (MEMBER, decode_member)]
both = pytest.mark.parametrize(("record", "decode"), BOTH, ids=["host", "member"])
each_field = pytest.mark.parametrize(
    ("record", "decode", "field"),
    [(record, decode, field) for record, decode in BOTH for field in record._fields],
)


def line(record: HostRecord | MemberRecord, **changes: object) -> bytes:
    return json.dumps(record._asdict() | changes).encode() + b"\n"


@both
def test_a_record_comes_back(record, decode):
    assert decode(encode_record(record)) == record


names = st.text("aZ.\0/ü€😀", max_size=20)
files = names.filter(lambda name: not set(name) & {"/", "\0"} and name.strip("."))
above_zero = st.integers(1, 2**63 - 1)
times = st.floats(0, 1e12)


heartbeats = st.floats(0, 3600, exclude_min=True)


@given(
    st.builds(
        HostRecord,
        names,
        names,
        above_zero,
        above_zero,
        files,
        above_zero,
        names,
        times,
        heartbeats,
        st.integers(0, 2**64 - 1),
    )
)
def test_any_host_record_that_names_a_file_comes_back(record):
    assert decode_host(encode_record(record)) == record


labels = st.dictionaries(names, names, max_size=3)
ids = st.binary(min_size=16, max_size=16).map(bytes.hex)


@given(st.builds(MemberRecord, names, ids, above_zero, times, st.booleans(), st.booleans(), labels))
def test_any_member_record_comes_back(record):
    assert decode_member(encode_record(record)) == record


@both
def test_a_record_is_one_line_that_people_can_read(record, decode):
    content = encode_record(record)
    assert content.count(b"\n") == 1
    assert content.endswith(b"\n")
    assert json.loads(content)["pid"] == 4711


@both
def test_a_record_that_is_half_written_is_none(record, decode):
    content = encode_record(record)
    for length in range(len(content)):
        assert decode(content[:length]) is None


@both
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"null\n",
        b"17\n",
        b"[]\n",
        b"{}\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b"1" * 5000 + b"\n",
        b'{"name": "chat"}\n',
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_no_record_is_none(record, decode, content):
    assert decode(content) is None


@both
@given(content=st.binary(max_size=50))
def test_garbage_is_none(record, decode, content):
    assert decode(content) is None
    assert decode(content + b"\n") is None


@each_field
def test_a_missing_field_makes_it_none(record, decode, field):
    fields = record._asdict()
    del fields[field]
    assert decode(json.dumps(fields).encode() + b"\n") is None


@each_field
def test_a_field_of_another_type_makes_it_none(record, decode, field):
    kind = type(getattr(record, field))
    others: list[object] = ["text", 1, 1.5, True, None, [], {}]
    for other in others:
        if type(other) is not kind:
            assert decode(line(record, **{field: other})) is None


@both
def test_fields_of_later_versions_are_ignored(record, decode):
    assert decode(line(record, later="thing")) == record


@pytest.mark.parametrize("socket", ["/tmp/evil", "../evil", "sub/evil", "/", "nul\0l"])
def test_a_socket_elsewhere_is_no_record(socket):
    assert decode_host(line(HOST, socket=socket)) is None


@pytest.mark.parametrize("field", ["hosting", "epoch"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_hosting_or_epoch_below_one_is_no_record(field, value):
    assert decode_host(line(HOST, **{field: value})) is None


@pytest.mark.parametrize(("field", "value"), [("hosting", 2**64), ("epoch", 2**64 - 1)])
def test_a_hosting_or_an_epochs_successor_that_fits_no_frame_is_no_record(field, value):
    assert decode_host(line(HOST, **{field: value})) is None


@pytest.mark.parametrize("value", [-1, 2**64])
def test_a_lineage_that_fits_no_frame_is_no_record(value):
    assert decode_host(line(HOST, lineage=value)) is None


def test_a_time_that_is_no_number_does_no_harm():
    record = decode_host(line(HOST, since=math.nan))
    assert record is None or math.isnan(record.since)


@pytest.mark.parametrize("heartbeat", [0.0, -1.0, 3600.1, 1, "1"])
def test_a_heartbeat_that_is_none_makes_no_record(heartbeat):
    assert decode_host(line(HOST, heartbeat=heartbeat)) is None


@pytest.mark.parametrize("value", [1, None, True, [], {}, "\ud800", "x" * 8189])
def test_a_label_that_cannot_be_makes_no_record(value):
    assert decode_member(line(MEMBER, labels={"role": value})) is None


@pytest.mark.parametrize(
    "member", ["", "f", "fe", "0" * 31, "0" * 33, "g" * 32, "F" * 32, "é" * 32]
)
def test_an_id_that_is_none_makes_no_record(member):
    assert decode_member(line(MEMBER, member=member)) is None
    assert not is_member_id(member)


def test_an_id_is_one():
    assert is_member_id(MEMBER.member)
