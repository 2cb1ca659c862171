"""What the pages say of the code, compared with the code."""

from __future__ import annotations

import importlib.util
import inspect
import re
import typing
from pathlib import Path
from types import ModuleType

import pytest
import typer.core
from mkdocs.config import load_config
from typer.main import get_command

import open_channel
import open_channel.sync
from open_channel import Limits, errors
from open_channel.bus.core import records
from open_channel.cli.app import app
from open_channel.protocol import states
from open_channel.protocol.control import _HELLO, _REFUSAL, _WELCOME, REFUSED_FOR
from open_channel.protocol.frames import HEADER, MAGIC, VERSION, Kind
from tests.chaos.evidence import KINDS as CHAOS
from tests.docs.snippets import ROOT, pages

DOCS = ROOT / "docs"


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(text: str, columns: int) -> list[list[str]]:
    """The rows of the tables that have so many columns, without their heads."""
    found = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    return [cells for cells in found if len(cells) == columns]


# --- diagrams -------------------------------------------------------------------------------------


@pytest.fixture
def draw_states() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_states", ROOT / "tools" / "draw_states.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_diagrams_are_those_of_the_tables(draw_states: ModuleType):
    for page in pages():
        text = page.read_text(encoding="utf-8")
        assert draw_states.redraw(text) == text, "run: python tools/draw_states.py"


def test_each_table_is_drawn():
    text = "".join(page.read_text(encoding="utf-8") for page in pages())
    drawn = set(re.findall(r"<!-- states: (\w+) -->", text))
    assert drawn == {name for name in states.__all__ if name.isupper()} | {"SEAT", "JOB"}


def test_a_page_that_is_stale_is_found_and_redrawn(
    draw_states: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- states: SENDING -->\nold\n<!-- /states -->\nafter\n")
    monkeypatch.setattr(draw_states, "DOCS", page.parent)
    assert draw_states.main(["--check"]) == 1
    assert "old" in page.read_text()
    assert draw_states.main([]) == 0
    assert draw_states.main(["--check"]) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    for (before, event), after in states.SENDING.items():
        assert f"{before.name.lower()} --> {after.name.lower()}: {event.value}\n" in text


# --- reference pages ------------------------------------------------------------------------------


def test_each_error_is_described_with_its_bases_and_attributes():
    described = {cells[0].strip("`"): cells for cells in rows(text_of("errors.md"), 5)[2:]}
    assert list(described) != []
    assert set(described) == set(errors.__all__)
    for name, (_, also, _, attributes, _) in described.items():
        kind = getattr(errors, name)
        bases = [base.__name__ for base in kind.__bases__ if base is not errors.ChannelError]
        assert re.findall(r"`(\w+)`", also) == bases, name
        facts = {fact for base in kind.__mro__ for fact in inspect.get_annotations(base)}
        said = set(re.findall(r"`(\w+)`", attributes))
        assert said == (facts - {"text"} or {"reason"}), name


def test_each_limit_is_described_with_its_default():
    described = {cells[0].strip("`"): cells for cells in rows(text_of("limits.md"), 4)[2:]}
    fields = {name: it.default for name, it in inspect.signature(Limits).parameters.items()}
    assert list(described) == list(fields)
    for name, (_, default, unit, _) in described.items():
        assert default.split()[0] == str(fields[name]), name
        assert unit == ("bytes" if isinstance(fields[name], int) else "seconds")
        if size := re.search(r"\((\d+) MiB\)", default):
            assert int(size[1]) * 1024 * 1024 == fields[name]


def test_each_public_name_is_in_the_reference():
    said = set(re.findall(r"^::: open_channel\.(.+)$", text_of("api.md"), re.MULTILINE))
    names = {name for name in open_channel.__all__ if name not in errors.__all__}
    assert said == names | {f"sync.{name}" for name in open_channel.sync.__all__}


def test_each_command_and_option_is_described():
    text = text_of("cli.md")
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    commands = group.commands
    assert set(re.findall(r"^## `open-channel (\w+)", text, re.MULTILINE)) == set(commands)
    for command in commands.values():
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("-") and option != "--help":
                    assert f"`{option}" in text or f" {option}" in text, (command.name, option)


# --- the wire -------------------------------------------------------------------------------------


def section(text: str, begin: str) -> str:
    """The text from a line on, up to the next that begins a section."""
    rest = text[text.index(begin) + len(begin) :]
    return re.split(r"^(?:\*\*[A-Z]+\*\*$|## )", rest, maxsplit=1, flags=re.MULTILINE)[0]


def test_the_frames_are_as_the_code_has_them():
    text = text_of("protocol.md")
    assert f"Version {VERSION}." in text
    assert f"0x{MAGIC:016X}" in text
    header = rows(section(text, "## Frames"), 4)[2:]
    end = 0
    for offset, size, *_ in header:
        assert int(offset) == end
        end += int(size)
    assert end == HEADER.size
    kinds = {int(cells[0]): cells[1] for cells in rows(section(text, "## Frames"), 5)[2:]}
    assert kinds == {int(kind): kind.name for kind in Kind}


@pytest.mark.parametrize(
    ("begin", "layout"),
    [("**HELLO**", _HELLO), ("**WELCOME**", _WELCOME), ("**REFUSAL**", _REFUSAL)],
)
def test_the_handshake_is_as_the_code_has_it(begin, layout):
    fields = rows(section(text_of("protocol.md"), begin), 3)[2:]
    assert fields[-1][0] == "rest"
    assert sum(int(size) for size, *_ in fields[:-1]) == layout.size


def test_the_reasons_of_a_refusal_are_as_the_code_has_them():
    said = re.findall(
        r"(\d) (\w+)", section(text_of("protocol.md"), "**REFUSAL**").split("ours")[0]
    )
    assert [(str(code), name) for code, name in enumerate(REFUSED_FOR)] == said


def test_the_records_of_the_bus_are_as_the_code_has_them():
    text = text_of("bus-protocol.md")
    kinds = {cells[1]: int(cells[0]) for cells in rows(text, 4) if cells[0].isdigit()}
    controls = {kind.__struct_config__.tag: kind for kind in typing.get_args(records.Control)}
    tagged = {int(cells[0]): cells for cells in rows(section(text, "**Control records:**"), 4)[2:]}
    assert {tag: cells[1] for tag, cells in tagged.items()} == {
        tag: kind.__name__ for tag, kind in controls.items()
    }
    for tag, (_, name, _, said) in tagged.items():
        for field in controls[tag].__struct_fields__:
            assert re.search(rf"\b{field}\b", said), f"{name}.{field}"
    assert (
        kinds.items()
        >= {
            name: getattr(records, name) for name in ("PUBLISH", "DIRECT", "JOB", "ACK", "CONTROL")
        }.items()
    )
    flags = dict(re.findall(r"^\| (\d+) ([A-Z]+) \|", text, re.MULTILINE))
    assert {int(value): name for value, name in flags.items()} == {
        flag.value: flag.name for flag in records.Flag
    }
    sizes = rows(section(text, "**A publication** is"), 3)[2:10]
    assert sum(int(size) for size, *_ in sizes if size.isdigit()) == records.HEADER.size
    ends = re.search(r"why: 1 (.+), 2 (.+), 3 (.+) \|", text)
    assert ends is not None
    assert len(ends.groups()) == len(records.End)


# --- the house ------------------------------------------------------------------------------------


def test_each_guarantee_has_its_proofs_and_they_exist():
    found = rows(text_of("guarantees.md"), 3)
    proofs = {cells[0]: cells[2] for cells in found if re.fullmatch(r"[GS]\d+", cells[0])}
    assert list(proofs) == [f"{kind}{n}" for kind in "GS" for n in range(1, 11)]
    for name, proof in proofs.items():
        paths = re.findall(r"`(tests/\S+)`", proof)
        assert paths, name
        assert all((ROOT / path).is_file() for path in paths), name
        for kinds in re.findall(r"`make chaos` \(([^)]*)\)", proof):
            assert set(kinds.split(", ")) <= CHAOS.keys(), name


def test_each_page_is_in_the_menu():
    config = load_config(str(ROOT / "mkdocs.yml"))

    def files(item: object) -> list[str]:
        if isinstance(item, str):
            return [item]
        assert isinstance(item, dict | list)
        parts = item.values() if isinstance(item, dict) else item
        return [name for part in parts for name in files(part)]

    said = files(config["nav"])
    assert sorted(said) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_readme_links_to_what_exists():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_the_readme_has_its_chapters_in_order():
    chapters = re.findall(r"^## (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert chapters == [
        "See it work",
        "Install",
        "The first paste",
        "The same, blocking",
        "What is promised",
        "The bus",
        "The command line",
        "Speed",
        "When not to use it",
        "Documentation",
        "Licence",
    ]
