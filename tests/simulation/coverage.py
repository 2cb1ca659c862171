"""Which steps of which table the schedules have taken."""

from __future__ import annotations

from collections import Counter
from typing import Any

__all__ = ["taken"]

taken: Counter[Any] = Counter()
"""{(table, ...): how often}, of all schedules of this process."""
