"""What is raised when something does not hold."""

from __future__ import annotations

__all__ = ["Violation"]


class Violation(AssertionError):
    """Something does not hold."""
