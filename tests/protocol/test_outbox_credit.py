"""Credit: small messages written with hardly any work keep within all bounds all the same."""

from __future__ import annotations

import pytest

from open_channel.protocol.batches import BATCH_LIMIT, OVERHEAD
from open_channel.protocol.outbox import SMALL, Outbox
from tests.protocol.verbs import ALL, messages_of, outbox, write_in_a_row


def append_on_credit(box: Outbox, message: bytes) -> None:
    assert len(message) <= SMALL
    assert box.credit > 0
    box.credit -= 1
    box.pending.append(message)


@pytest.fixture
def credited() -> Outbox:
    """An outbox that has been written to three times in a row, and so gives credit."""
    box = outbox(window=1024, drain=8192, outbox=16384)
    for message in (b"one", b"two", b"three"):
        assert not box.credit
        box.write(message)
    return box


def test_credit_is_for_what_follows_the_third_of_a_row(credited):
    assert credited.credit > 0


def test_the_backlog_is_not_less_than_what_is_known(credited):
    size = credited.size
    append_on_credit(credited, b"fours")
    assert size < credited.backlog <= size + 5 + OVERHEAD


def test_credit_keeps_within_the_soft_limit_the_outbox_and_the_batch(credited):
    while credited.credit:
        append_on_credit(credited, bytes(SMALL))
    assert not credited.over
    assert 8192 - SMALL - OVERHEAD < credited.size <= 8192
    credited.write(bytes(SMALL))
    credited.write(bytes(SMALL))
    assert credited.over
    assert not credited.credit


@pytest.mark.parametrize("drain", [0, 1 << 20])
def test_credit_never_makes_a_batch_too_large(drain):
    box = outbox(drain=drain)
    messages = [bytes([number % 256]) * SMALL for number in range(2000)]
    for message in messages:
        append_on_credit(box, message) if box.credit else box.write(message)
    batches = box.take(ALL)
    assert all(batch.size <= BATCH_LIMIT for batch in batches)
    assert [message for batch in batches for message in messages_of(batch)] == messages


def test_credit_ends_with_the_batch_the_limits_and_the_outbox(credited):
    for end in (
        credited.seal,
        lambda: credited.agree(1024, 1000),
        lambda: credited.write(bytes(1000)),
        credited.clear,
        credited.finish,
    ):
        write_in_a_row(credited, b"one", b"two", b"three")
        before = credited.credit
        end()
        assert credited.credit < before


def test_no_message_over_its_limit_is_written_on_credit():
    box = outbox(max_message=SMALL - 1)
    write_in_a_row(box, b"one", b"two", b"three")
    assert not box.credit


def test_what_is_on_credit_is_not_empty():
    box = outbox()
    write_in_a_row(box, b"", b"", b"")
    append_on_credit(box, b"")
    assert not box.empty
    assert box.sendable
