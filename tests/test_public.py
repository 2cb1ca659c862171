"""What all public names have in common."""

from __future__ import annotations

import inspect
import typing
from types import ModuleType

import pytest

import open_channel
import open_channel.sync

CLASSES = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (open_channel, open_channel.sync)
    for name in module.__all__
    if inspect.isclass(getattr(module, name))
}


@pytest.mark.parametrize("name", CLASSES)
def test_the_hints_of_a_class_can_be_looked_up(name: str):
    """Whoever encodes, decodes or shows values by their types does so."""
    typing.get_type_hints(CLASSES[name], include_extras=True)


def test_the_values_have_hints():
    found = {name for name, value in CLASSES.items() if typing.get_type_hints(value)}
    values = {"Batch", "Job", "Limits", "Member", "MemberChange", "Message", "Peer", "Stats"}
    assert found >= {f"open_channel.{name}" for name in values}


@pytest.mark.parametrize("module", [open_channel, open_channel.sync], ids=lambda it: it.__name__)
def test_every_public_name_can_be_imported_and_is_listed(module: ModuleType):
    assert set(module.__all__) <= set(dir(module))
    assert all(getattr(module, name).__name__ == name for name in module.__all__)
