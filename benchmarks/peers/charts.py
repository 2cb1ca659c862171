"""Records as charts. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from peers import tables
from peers.record import Found, Record

COLOURS = {"ours": "#00897b", "brokered": "#e07a3f", "direct": "#5c7fb8", "floor": "#9e9e9e"}
LABELS = {
    "ours": "open_channel",
    "brokered": "through a broker",
    "direct": "direct",
    "floor": "floor",
}
BARS = {
    "stream": ("rate", "messages a second", 1.0),
    "fanout": ("rate", "deliveries a second", 1.0),
    "bodies": ("rate", "MiB a second", 1.0),
    "bodies4": ("rate", "MiB delivered a second", 1.0),
    "request": ("p50_us", "µs; the mark is p99", 1.0),
    "connect": ("p50_us", "ms; the mark is p99", 1e-3),
    "idle": ("member_private_memory", "MiB of a member", 1.0),
}


def drawable(record: Record) -> bool:
    """Whether there is a chart of it."""
    return bool(record.measured()) and (record.pattern in BARS or bool(record.varies))


def draw(records: Mapping[str, Record], folder: Path) -> Iterator[Path]:
    """Draw what can be drawn; yields the files."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    for name, record in records.items():
        if not drawable(record):
            continue
        figure = _bars(record, *BARS[name]) if name in BARS else _lines(record)
        path = folder / f"{name}.png"
        # No date, no version: the same figures give the same file.
        figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
        yield path


def _bars(record: Record, what: str, unit: str, scale: float) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    low = what != "rate"
    found = tables.ranked(record, what, low=low)[::-1]
    figure = Figure(figsize=(8, 0.32 * len(found) + 1.1))
    axes = figure.subplots()
    values = [each.median(what) * scale for each in found]
    names = [each.name for each in found]
    axes.barh(names, values, color=[COLOURS[each.kind] for each in found], height=0.7)
    widest = max(values)
    if what == "p50_us":
        tails = [each.median("p99_us") * scale for each in found]
        axes.plot(tails, names, "|", color="#333333", markersize=9)
        widest = max(tails)
    for name, value in zip(names, values, strict=True):
        text = f" {value:,.0f}" if value >= 100 else f" {value:.3g}"
        axes.text(value, name, text, va="center", fontsize=8)
    if widest > 30 * min(values):
        axes.set_xscale("log")
    axes.set_xlabel(unit)
    axes.set_title(record.title, loc="left", fontsize=10)
    kinds = [kind for kind in COLOURS if any(each.kind == kind for each in found)]
    patches = [Patch(color=COLOURS[kind], label=LABELS[kind]) for kind in kinds]
    axes.legend(handles=patches, loc="lower right", frameon=False, fontsize=8)
    return figure


def _lines(record: Record) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4))
    axes = figure.subplots()
    for peer in dict.fromkeys(found.peer for found in record.measured().values()):
        some: list[Found] = sorted(record.variants(peer), key=lambda found: found.x or 0)
        rates = [found.median("rate") for found in some]
        style = "-o" if some[0].kind == "ours" else "--o"
        axes.plot([found.x for found in some], rates, style, label=some[0].name, markersize=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(record.varies)
    axes.set_ylabel("messages a second")
    axes.set_title(record.title, loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    return figure
