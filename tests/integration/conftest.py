"""What the tests of this folder share: processes that do not outlive their test."""

from __future__ import annotations

from tests.processes import processes

__all__ = ["processes"]
