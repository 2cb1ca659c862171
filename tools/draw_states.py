"""Draw the state tables into the documentation, as Mermaid diagrams and as a table.

A page holds a block for each:

    <!-- states: CHANNEL -->
    ...
    <!-- /states -->

What stands between the two lines is replaced. With --check nothing is written; the exit code is 1
when a page is not what the tables make of it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from open_channel.protocol import states
from open_channel.protocol.frames import Kind
from tests.simulation import tables

DOCS = Path(__file__).resolve().parent.parent / "docs"

_BLOCK = re.compile(r"(<!-- states: (\w+) -->\n).*?(<!-- /states -->)", re.DOTALL)
_INDENT = "    "


def identifier(state: Enum) -> str:
    """What Mermaid calls a state."""
    return state.name.lower()


def diagram(table: Mapping[tuple[Enum, Enum], Enum]) -> str:
    """A table of steps as a state diagram; what leads nowhere else is an end."""
    kind = type(next(iter(table))[0])
    lines = ["```mermaid", "stateDiagram-v2", f"{_INDENT}direction LR"]
    lines += [f"{_INDENT}{identifier(state)}: {state.value}" for state in kind]
    lines.append(f"{_INDENT}[*] --> {identifier(next(iter(kind)))}")
    lines += [
        f"{_INDENT}{identifier(before)} --> {identifier(after)}: {event.value}"
        for (before, event), after in table.items()
    ]
    lines += [
        f"{_INDENT}{identifier(state)} --> [*]"
        for state in kind
        if all(after is state for (before, _), after in table.items() if before is state)
    ]
    return "\n".join([*lines, "```", ""])


def machine(table: tables.Table) -> str:
    """The same of a table whose states follow from where a thing stands: words, not an ``Enum``."""
    steps = [(before, event, after) for (before, event), them in table.items() for after in them]
    names = dict.fromkeys(state for before, _, after in steps for state in (before, after))
    words = {name: name.replace(", ", "_").replace(" ", "_") for name in names}
    lines = ["```mermaid", "stateDiagram-v2", f"{_INDENT}direction LR"]
    lines += [f"{_INDENT}{word}: {name}" for name, word in words.items() if name != "new"]
    for before, event, after in steps:
        start = "[*]" if before == "new" else words[before]
        lines.append(f"{_INDENT}{start} --> {words[after]}: {event}")
    ends = names.keys() - {before for before, _, _ in steps}
    lines += [f"{_INDENT}{words[name]} --> [*]" for name in names if name in ends]
    return "\n".join([*lines, "```", ""])


def accepted() -> str:
    """Which frames a connection accepts in each of its states."""
    lines = ["| connection | frames it accepts |", "|---|---|"]
    for state, kinds in states.ACCEPTED.items():
        names = ", ".join(Kind(kind).name for kind in sorted(kinds))
        lines.append(f"| {state.value} | {names or 'none'} |")
    return "\n".join(["", *lines, "", ""])


def draw(name: str) -> str:
    """The block of one table."""
    if name == "ACCEPTED":
        return accepted()
    if hasattr(states, name):
        return "\n" + diagram(getattr(states, name)) + "\n"
    return "\n" + machine(getattr(tables, name)) + "\n"


def redraw(text: str) -> str:
    """A page, with all its blocks drawn anew."""
    return _BLOCK.sub(lambda block: block[1] + draw(block[2]) + block[3], text)


def main(arguments: list[str]) -> int:
    """Redraw the pages, or check them."""
    stale = []
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (drawn := redraw(text)) != text:
            stale.append(page)
            if "--check" not in arguments:
                page.write_text(drawn, encoding="utf-8")
    for page in stale:
        print(f"{'stale' if '--check' in arguments else 'drawn'}: {page.relative_to(DOCS.parent)}")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
