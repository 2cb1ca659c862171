"""Every Python block of the README and of the documentation does what its page says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.modes import MODES
from tests.docs.snippets import Snippet, pages, snippets
from tests.processes import Processes, processes

__all__ = ["processes"]  # the fixture

ALL = [snippet for page in pages() for snippet in snippets(page)]


@pytest.mark.parametrize("snippet", ALL, ids=str)
def test_a_block_runs(snippet: Snippet, channel_dir: Path, tmp_path: Path, processes: Processes):
    assert snippet.mode in MODES, f"{snippet}: there is no way to run {snippet.mode!r}"
    MODES[snippet.mode](snippet, tmp_path, processes)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_file_is_used_by_a_program_of_its_page(page: Path):
    blocks = snippets(page)
    for block in blocks:
        if block.mode == "file":
            users = [other.code for other in blocks if other is not block]
            module = Path(block.name).stem
            assert any(f"from {module} import" in code for code in users), str(block)


def test_there_are_blocks():
    assert len(ALL) > 15
    assert len({(snippet.page, snippet.name) for snippet in ALL}) == len(ALL)


def lines_of(page: Path) -> Iterator[str]:
    yield from page.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_mark_is_followed_by_its_block(page: Path):
    """A mark that is misspelt, or that has lost its block, would change how a block is run."""
    marks = [line for line in lines_of(page) if "<!--" in line and "test" in line]
    named = [block for block in snippets(page) if not block.name.startswith("program_")]
    assert len(marks) == len(named), marks
