"""Randomness for the protocol core, which has none of its own."""

from __future__ import annotations

import os

__all__ = ["chance"]


def chance() -> float:
    """A random number from 0 to 1: from the system, so a fork's two sides never share it."""
    return int.from_bytes(os.urandom(4), "big") / 2**32
