"""What a member knows of a subscription."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from open_channel.bus.core.interests import (
    UNKNOWN,
    Interest,
    add_missed,
    group_key,
    split_group_key,
)
from open_channel.bus.core.records import Subscribe


def test_a_group_is_known_by_its_name_and_its_pattern():
    assert group_key("mailers", "jobs.*") == "mailers jobs.*"
    assert group_key("mailers", "jobs") != group_key("mailers", "jobs.*")
    assert group_key("", "jobs") == ""
    assert split_group_key(group_key("the mailers", "jobs.*")) == ("the mailers", "jobs.*")


@pytest.mark.parametrize(
    ("options", "plain"),
    [({}, True), ({"blocks": True}, True), ({"group": "g"}, False), ({"serves": True}, False)],
)
def test_plain_is_what_gets_each_message(options, plain):
    interest = Interest(1, "a.*", Mock(), **options)
    assert interest.plain is plain


def test_a_broker_is_told_all_of_it_and_whether_another_has_confirmed_it():
    interest = Interest(7, "jobs", Mock(), group="g", prefetch=3)
    assert interest.record() == Subscribe(7, "jobs", "g", prefetch=3)
    interest.confirmed = True
    assert interest.record() == Subscribe(7, "jobs", "g", prefetch=3, confirmed=True)
    assert interest.key == "g jobs"


def test_unknown_and_any_number_is_unknown():
    assert add_missed(2, 3) == 5
    assert add_missed(2, UNKNOWN) == add_missed(UNKNOWN, 3) == add_missed(UNKNOWN, 0) == UNKNOWN
