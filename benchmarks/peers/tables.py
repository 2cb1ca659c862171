"""A record as a table, and the goals as one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from harness import Cell, Goal, Table

from peers.goals import aims
from peers.record import Found, Record

KINDS = {
    "ours": "open_channel",
    "brokered": "brokered",
    "direct": "direct",
    "floor": "floor",
}
NONE = ""


def table(record: Record) -> Table:
    """The figures of a pattern, best first."""
    title = f"{record.title}; medians of {rounds(record)} rounds"
    if record.varies:
        return _varied(record, title)
    return LAYOUTS[record.pattern](record, title)


def rounds(record: Record) -> int:
    return max((len(found.rounds) for found in record.entries.values()), default=0)


def ranked(record: Record, what: str, *, low: bool = False) -> list[Found]:
    """The measured entries, the best first."""
    found = list(record.measured().values())
    return sorted(found, key=lambda each: each.median(what), reverse=not low)


def cell(found: Found, what: str) -> Cell:
    """The median of one figure; empty where there is no such thing."""
    return found.median(what) if all(what in figures for figures in found.rounds) else NONE


def _rates(record: Record, title: str) -> Table:
    header = ["peer", "kind", "messages/s", "min", "max"]
    header += ["publisher CPU µs", "host CPU µs", "subscriber CPU µs", "host peak MiB"]
    result = Table(title, header)
    for found in ranked(record, "rate"):
        rates = found.all("rate")
        row: list[Cell] = [found.name, KINDS[found.kind], statistics.median(rates)]
        row += [min(rates), max(rates), cell(found, "publisher_cpu_us"), cell(found, "host_cpu_us")]
        row += [cell(found, "subscriber_cpu_us"), cell(found, "host_memory")]
        result.rows.append(row)
    return result


def _times(record: Record, title: str) -> Table:
    result = Table(title, ["peer", "kind", "p50 µs", "p90 µs", "p99 µs", "worst p99 µs"])
    for found in ranked(record, "p50_us", low=True):
        row: list[Cell] = [found.name, KINDS[found.kind]]
        row += [cell(found, f"p{share}_us") for share in (50, 90, 99)]
        result.rows.append([*row, max(found.all("p99_us"))])
    return result


def _connects(record: Record, title: str) -> Table:
    result = Table(title, ["peer", "kind", "p50 µs", "p99 µs", "start and imports, ms"])
    for found in ranked(record, "p50_us", low=True):
        start = statistics.median(f["process_seconds"] - f["seconds"] for f in found.rounds)
        row: list[Cell] = [found.name, KINDS[found.kind], cell(found, "p50_us")]
        result.rows.append([*row, cell(found, "p99_us"), start * 1e3])
    return result


def _idle(record: Record, title: str) -> Table:
    header = ["peer", "kind", "member MiB", "member CPU ms/s", "host MiB", "host CPU ms/s"]
    result = Table(title, header)
    for found in ranked(record, "member_private_memory", low=True):
        row: list[Cell] = [found.name, KINDS[found.kind]]
        for who in ("member", "host"):
            row += [cell(found, f"{who}_private_memory"), cell(found, f"{who}_cpu_ms")]
        result.rows.append(row)
    return result


def _takeovers(record: Record, title: str) -> Table:
    result = Table(title, ["loop", "kills", "p50 ms", "p90 ms", "worst ms"])
    for found in record.measured().values():
        kills = int(sum(found.all("count")))
        loop = found.name.split(", ")[1]
        worst = max(found.all("p100_ms"))
        result.rows.append([loop, kills, cell(found, "p50_ms"), cell(found, "p90_ms"), worst])
    return result


def _soak(record: Record, title: str) -> Table:
    header = ["peer", "seconds", "messages", "after a tenth MiB", "highest MiB", "at the end MiB"]
    result = Table(title, header)
    for found in record.measured().values():
        row: list[Cell] = [found.name, cell(found, "seconds"), int(found.median("count"))]
        row += [cell(found, what) for what in ("early_memory", "highest", "late_memory")]
        result.rows.append(row)
    return result


def _varied(record: Record, title: str) -> Table:
    numbers = sorted({found.x for found in record.measured().values() if found.x is not None})
    header = ["peer", "kind", *(f"{number:,}" for number in numbers)]
    header += [f"host CPU µs, {number:,}" for number in (numbers[:1] + numbers[-1:])]
    result = Table(f"{title}; messages/s by {record.varies}", header)
    peers = dict.fromkeys(found.peer for found in record.measured().values())
    for peer in peers:
        by_number = {found.x: found for found in record.variants(peer)}
        some = next(iter(by_number.values()))
        row: list[Cell] = [some.name, KINDS[some.kind]]
        row += [cell(by_number[n], "rate") if n in by_number else NONE for n in numbers]
        for number in numbers[:1] + numbers[-1:]:
            row.append(cell(by_number[number], "host_cpu_us") if number in by_number else NONE)
        result.rows.append(row)
    return result


LAYOUTS: dict[str, Callable[[Record, str], Table]] = {
    "stream": _rates,
    "fanout": _rates,
    "bodies": _rates,
    "bodies4": _rates,
    "request": _times,
    "connect": _connects,
    "idle": _idle,
    "takeover": _takeovers,
    "soak": _soak,
}


def goal_table(records: Mapping[str, Record]) -> Table:
    """Each goal with what each variant of ours has reached."""
    found = aims(records)
    names = list(dict.fromkeys(name for aim in found for name in aim.reached))
    names.sort(reverse=True)
    result = Table("Goals", ["goal", "bound", *names])
    for aim in found:
        bound = f"{'at most' if aim.at_most else 'at least'} {aim.bound:g} {aim.unit}".strip()
        verdicts = {n: _verdict(g) for n, g in zip(aim.reached, aim.goals(), strict=True)}
        result.rows.append([aim.what, bound, *(verdicts.get(name, NONE) for name in names)])
    return result


def _verdict(goal: Goal) -> str:
    return f"{goal.reached:.2f} {'met' if goal.met else 'missed'}"


def notes(record: Record) -> list[str]:
    """Who is missing from a record, and why."""
    absent = [f"{name}: not installed ({what})" for name, what in record.absent.items()]
    failed = [
        f"{f.name}{'' if f.x is None else f' with {f.x:,} {record.varies}'}: "
        f"{'given up after' if f.rounds else 'not measured'}"
        f"{f' {len(f.rounds)} rounds' if f.rounds else ''} ({first_line(f.failed)})"
        for f in record.entries.values()
        if f.failed
    ]
    return absent + failed + [f"{key}: left out of a quick run" for key in record.left_out]


def first_line(text: str) -> str:
    return text.partition("\n")[0]


def as_text(record: Record) -> str:
    return "\n\n".join([table(record).text(), *lines(notes(record))])


def lines(some: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {line}" for line in some)] if some else []
