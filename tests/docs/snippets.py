"""The code blocks of the documentation, and what the comments before them say of each.

A Python block is a program unless a comment before it says something else:

    <!-- test: NAME -->            a program that is saved as NAME and run
    <!-- test: NAME, MODE -->      ... and run as the function MODE of ``modes`` does it
    <!-- output -->                before a block of text: what the program above it prints

A page's blocks of the mode "file" are written beside every program of that page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ROOT", "Snippet", "commands", "pages", "snippets"]

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w-]*)[^\n`]*$")
_MARK = re.compile(r"^ *<!-- test: (?P<name>[\w.-]+)(?:, (?P<mode>[^>]+?))? -->$")
_OUTPUT = "<!-- output -->"


@dataclass
class Snippet:
    """One block of Python."""

    page: Path
    line: int
    name: str
    mode: str
    code: str
    output: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    """The files of its page, by name."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def save(self, directory: Path) -> Path:
        """Write it, and the files of its page, into a directory."""
        for name, code in {**self.files, self.name: self.code}.items():
            (directory / name).write_text(code, encoding="utf-8")
        return directory / self.name


@dataclass
class _Block:
    line: int
    language: str
    before: str
    """The line before it that is not empty."""
    text: str


def pages() -> list[Path]:
    """The pages whose blocks are tested."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _blocks(page: Path) -> list[_Block]:
    found: list[_Block] = []
    before, opened = "", None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        match = _FENCE.match(line)
        if opened is None:
            if match is not None:
                opened, lines = (number, match), []
            elif line.strip():
                before = line
        elif match is not None and match["fence"] == opened[1]["fence"] and not match["language"]:
            indent = len(opened[1]["indent"])
            text = "\n".join(text[indent:] for text in lines) + "\n"
            found.append(_Block(opened[0], opened[1]["language"], before, text))
            before, opened = "", None
        else:
            lines.append(line)
    assert opened is None, f"{page}: a block without an end"
    return found


def snippets(page: Path) -> list[Snippet]:
    """The Python blocks of a page."""
    found: list[Snippet] = []
    for block in _blocks(page):
        if block.before.strip() == _OUTPUT:
            assert found, f"{page}:{block.line}: output of nothing"
            found[-1].output = block.text
        if block.language not in ("python", "py", "python3", "pycon"):
            continue
        assert block.language == "python", f"{page}:{block.line}: is not tested"
        mark = _MARK.match(block.before)
        name = mark["name"] if mark else f"program_{block.line}.py"
        mode = (mark["mode"] if mark else None) or "program"
        found.append(Snippet(page, block.line, name, mode, block.text))
    files = {snippet.name: snippet.code for snippet in found if snippet.mode == "file"}
    for snippet in found:
        snippet.files = files
    return found


def commands(page: Path) -> list[tuple[int, str]]:
    """The lines of the shell blocks of a page, with the numbers of their blocks' lines."""
    return [
        (block.line, line.partition(" #")[0].strip())
        for block in _blocks(page)
        if block.language in ("sh", "bash", "shell", "console")
        for line in block.text.splitlines()
        if line.strip() and not line.startswith("#")
    ]
