"""The house rules that a machine can check: purity of the core, layers, sizes, docstrings.

Each rule is a function from a file (or a name) to a list of complaints. It is applied to every file
of the library, and, below, to small offenders, so that we know that it can complain.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pydoc
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
PACKAGE = "open_channel"
CORES = (("protocol",), ("bus", "core"))  # the folders that are pure
TESTS = ROOT / "tests"

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60

# What would give the core a socket, a clock, a thread or a die.
IMPURE = {
    "asyncio",
    "concurrent",
    "fcntl",
    "logging",
    "multiprocessing",
    "os",
    "random",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
}

# From the bottom to the top: a layer imports from itself and from those before it.
LAYERS = ("protocol", "io", "channel", "bus", "sync", "cli")
LEAF = -1  # errors and other top-level modules: all may import them, they import no layer
FACADE = LAYERS.index("bus") + 0.5  # open_channel/__init__.py collects the layers up to the bus
ANYTHING = len(LAYERS)  # testing; and the modules that only start the command line

DESCRIPTORS = (property, cached_property, classmethod, staticmethod)
PUBLIC = (PACKAGE, f"{PACKAGE}.sync")


def python_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def name_of(path: Path, source: Path) -> tuple[str, ...]:
    """Return the dotted name of a file's module, in parts."""
    parts = path.relative_to(source).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(path: Path, source: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield line and full dotted name of all that a file imports, wherever in it that is."""
    name = name_of(path, source)
    package = name if path.name == "__init__.py" else name[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            for alias in node.names:
                yield node.lineno, (*base, alias.name)


def rank(name: tuple[str, ...], source: Path) -> float:
    """Return how high a module of the library stands; what it imports must not stand higher."""
    inside = name[1:]
    if not inside:
        return FACADE
    if inside[0] in LAYERS:
        return LAYERS.index(inside[0])
    if inside[0] in {"testing", "__main__"}:
        return ANYTHING
    folder = source / PACKAGE / inside[0]
    if folder.is_dir() or folder.with_suffix(".py").is_file():
        return LEAF
    return FACADE  # a name that is defined in open_channel/__init__.py


# --- the rules ------------------------------------------------------------------------------------


def impure_imports(path: Path, source: Path = SOURCE) -> list[str]:
    return [
        f"line {line}: the core imports {'.'.join(name)}"
        for line, name in imports(path, source)
        if name[0] in IMPURE
    ]


def upward_imports(path: Path, source: Path = SOURCE) -> list[str]:
    own = rank(name_of(path, source), source)
    return [
        f"line {line}: {'.'.join(name_of(path, source))} imports {'.'.join(name)}, a higher layer"
        for line, name in imports(path, source)
        if name[0] == PACKAGE and rank(name, source) > own
    ]


def imports_beyond_the_core(path: Path, source: Path = SOURCE) -> list[str]:
    """Return what a file of a core imports of the library that is neither core nor leaf.

    Only itself and the cores before it: the bus's core knows the protocol, and not vice versa.
    """
    own = name_of(path, source)[1:]
    place = next(index for index, core in enumerate(CORES) if own[: len(core)] == core)
    return [
        f"line {line}: the core imports {'.'.join(name)}"
        for line, name in imports(path, source)
        if name[0] == PACKAGE
        and rank(name, source) != LEAF
        and not any(name[1 : len(core) + 1] == core for core in CORES[: place + 1])
    ]


def too_long(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    complaints = [f"{lines} lines"] if lines > MAX_FILE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                complaints.append(f"line {node.lineno}: {node.name} has {lines} lines")
    return complaints


def missing_module_docstring(path: Path) -> list[str]:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return [] if docstring else ["the module has no docstring"]


def other_locks(path: Path) -> list[str]:
    """Return where a lock is left to be taken for ever, in 3.14: see ``open_channel.rlock``."""
    if path.name == "rlock.py":
        return []
    return [
        f"line {node.lineno}: threading.RLock"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "RLock"
    ]


def missing_core_test(path: Path, source: Path, tests: Path = TESTS) -> list[str]:
    expected = tests / path.relative_to(source).with_name(f"test_{path.name}")
    return [] if expected.is_file() else [f"{path.name} has no {expected.name}"]


def undocumented(module: ModuleType) -> list[str]:
    """Return the public names of a package that are missing or have no docstring of their own."""
    names = getattr(module, "__all__", None)
    if not names:
        return [f"{module.__name__} has no __all__"]
    complaints: list[str] = []
    for name in names:
        if not hasattr(module, name):
            complaints.append(f"{name} does not exist")
            continue
        thing = getattr(module, name)
        if isinstance(thing, type):
            complaints += [f"{name}{member}" for member in undocumented_members(thing)]
        elif callable(thing) and not inspect.getdoc(thing):
            complaints.append(f"{name} has no docstring")
    return complaints


def undocumented_members(cls: type) -> list[str]:
    own = [base for base in cls.__mro__ if base.__module__.split(".")[0] == PACKAGE]
    docstring = cls.__doc__  # a class does not inherit it
    generated = f"{cls.__name__}("  # what @dataclass writes where there is none
    complaints = [] if docstring and not docstring.startswith(generated) else [" has no docstring"]
    for name in sorted({name for base in own for name in vars(base) if not name.startswith("_")}):
        members = [vars(base)[name] for base in own if name in vars(base)]
        documentable = inspect.isroutine(members[0]) or isinstance(members[0], DESCRIPTORS)
        if documentable and not any(getattr(member, "__doc__", None) for member in members):
            complaints.append(f".{name} has no docstring")
    return complaints


# --- the library keeps them -----------------------------------------------------------------------

CORE_MODULES = [
    path
    for core in CORES
    for path in python_files(SOURCE.joinpath(PACKAGE, *core))
    if path.name != "__init__.py"
]


def file_id(path: Path) -> str:
    return str(path.relative_to(SOURCE / PACKAGE))


every_file = pytest.mark.parametrize("path", python_files(SOURCE), ids=file_id)


every_core_file = pytest.mark.parametrize(
    "path",
    [path for core in CORES for path in python_files(SOURCE.joinpath(PACKAGE, *core))],
    ids=file_id,
)


@every_core_file
def test_core_is_pure(path: Path):
    assert impure_imports(path) == []


@every_core_file
def test_a_core_knows_only_itself_and_those_before_it(path: Path):
    assert imports_beyond_the_core(path) == []


@every_file
def test_imports_point_one_way(path: Path):
    assert upward_imports(path) == []


@every_file
def test_files_and_functions_are_short(path: Path):
    assert too_long(path) == []


@every_file
def test_every_module_has_a_docstring(path: Path):
    assert missing_module_docstring(path) == []


@every_file
def test_locks_are_those_that_are_left_free(path: Path):
    assert other_locks(path) == []


@pytest.mark.parametrize("path", CORE_MODULES, ids=file_id)
def test_every_core_module_has_its_own_tests(path: Path):
    assert missing_core_test(path, SOURCE / PACKAGE) == []


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_exist_and_are_documented(name: str):
    assert undocumented(importlib.import_module(name)) == []


@pytest.mark.parametrize("name", ["open_channel", "open_channel.sync"])
def test_help_can_be_had_of_each_public_name(name: str):
    module = importlib.import_module(name)
    for public in module.__all__:
        assert public in pydoc.render_doc(getattr(module, public))


# --- the rules can complain -----------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Give the source folder of a library in miniature, with a file in each layer."""
    package = tmp_path / PACKAGE
    for layer in (*LAYERS, "testing", "bus/core"):
        (package / layer).mkdir(parents=True)
        (package / layer / "__init__.py").touch()
        (package / layer / "some.py").touch()
    for name in ("__init__", "__main__", "errors"):
        (package / f"{name}.py").touch()
    return tmp_path


def write(library: Path, name: str, text: str) -> Path:
    path = library / PACKAGE / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio",
        "import struct, os.path",
        "import time as clock",
        "from concurrent.futures import Future",
        "def late():\n    from random import random\n",
        "if True:\n    import socket\n",
    ],
)
def test_an_impure_import_is_found(library: Path, text: str):
    assert len(impure_imports(write(library, "protocol/some.py", text), library)) == 1


def test_pure_imports_are_allowed(library: Path):
    text = "import struct\nfrom enum import Enum\nfrom .time import now\n"
    assert impure_imports(write(library, "protocol/some.py", text), library) == []
    assert impure_imports(write(library, "bus/core/some.py", text), library) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("protocol/some.py", "from open_channel.io import some"),
        ("protocol/some.py", "from open_channel import io"),
        ("protocol/some.py", "import open_channel.cli.some"),
        ("protocol/some.py", "from open_channel import open_channel"),
        ("protocol/some.py", "from ..io.some import thing"),
        ("protocol/__init__.py", "from .. import io"),
        ("io/some.py", "from open_channel.channel.some import thing"),
        ("io/some.py", "def late():\n    from open_channel.testing import some\n"),
        ("channel/some.py", "from open_channel.bus import some"),
        ("channel/some.py", "from open_channel import __version__"),
        ("bus/some.py", "from ..sync import some"),
        ("sync/some.py", "from open_channel.cli import main"),
        ("errors.py", "from open_channel.protocol import some"),
        ("errors.py", "from .io import some"),
        ("errors.py", "from . import open_channel"),
        ("__init__.py", "from open_channel.sync import some"),
    ],
)
def test_an_upward_import_is_found(library: Path, name: str, text: str):
    assert len(upward_imports(write(library, name, text), library)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("protocol/some.py", "from open_channel.errors import ChannelError"),
        ("protocol/some.py", "from .. import errors"),
        ("protocol/some.py", "from .other import thing\nimport open_channel.protocol.other"),
        ("io/some.py", "from ..protocol import some"),
        ("sync/some.py", "from open_channel.channel.some import thing\nimport open_channel"),
        ("cli/some.py", "from open_channel import open_channel, sync"),
        ("testing/some.py", "from open_channel.cli import main"),
        ("__main__.py", "from open_channel.cli import main"),
        ("__init__.py", "from open_channel.bus import some\nfrom .errors import ChannelError"),
    ],
)
def test_a_downward_import_is_allowed(library: Path, name: str, text: str):
    assert upward_imports(write(library, name, text), library) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bus/core/some.py", "from open_channel.io import some"),
        ("bus/core/some.py", "from open_channel.channel.some import thing"),
        ("bus/core/some.py", "from open_channel.bus import some"),
        ("bus/core/some.py", "from open_channel.bus.some import thing"),
        ("bus/core/some.py", "from .. import some"),
        ("bus/core/some.py", "from open_channel import open_channel"),
        ("bus/core/__init__.py", "from ..some import thing"),
        ("protocol/some.py", "from open_channel.bus.core import some"),
    ],
)
def test_an_import_beyond_the_core_is_found(library: Path, name: str, text: str):
    assert len(imports_beyond_the_core(write(library, name, text), library)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bus/core/some.py", "from open_channel.protocol.some import thing"),
        ("bus/core/some.py", "from open_channel.protocol import some"),
        ("bus/core/some.py", "from open_channel.errors import ChannelError"),
        ("bus/core/some.py", "from . import other\nfrom .other import thing\nimport msgspec"),
        ("bus/core/__init__.py", "from open_channel.bus.core.some import thing"),
        ("protocol/some.py", "from open_channel.protocol import other"),
    ],
)
def test_an_import_within_the_core_is_allowed(library: Path, name: str, text: str):
    assert imports_beyond_the_core(write(library, name, text), library) == []


def test_a_long_file_is_found(library: Path):
    lines = "x = 1\n"
    assert too_long(write(library, "errors.py", lines * MAX_FILE_LINES)) == []
    assert too_long(write(library, "errors.py", lines * (MAX_FILE_LINES + 1))) == ["501 lines"]


@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_a_long_function_is_found(library: Path, keyword: str):
    head, line = f"class C:\n    {keyword} f(self):\n", "        x = 1\n"
    allowed = head + line * (MAX_FUNCTION_LINES - 1)
    assert too_long(write(library, "errors.py", allowed)) == []
    assert too_long(write(library, "errors.py", allowed + line)) == ["line 2: f has 61 lines"]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "x = 1\n'''too late'''\n"])
def test_a_missing_module_docstring_is_found(library: Path, text: str):
    assert missing_module_docstring(write(library, "errors.py", text))
    assert not missing_module_docstring(write(library, "errors.py", '"""What lives here."""\n'))


def test_another_lock_is_found(library: Path):
    text = "import threading\n\nlock = threading.RLock()\n"
    assert other_locks(write(library, "errors.py", text)) == ["line 3: threading.RLock"]
    assert other_locks(write(library, "rlock.py", text)) == []


def test_a_missing_core_test_is_found(library: Path, tmp_path: Path):
    core, tests = library / PACKAGE / "protocol", tmp_path / "tests"
    tests.mkdir()
    assert missing_core_test(core / "some.py", core, tests) == ["some.py has no test_some.py"]
    (tests / "test_some.py").touch()
    assert missing_core_test(core / "some.py", core, tests) == []


OFFENDERS = '''
from dataclasses import dataclass
from functools import cached_property
__all__ = ["Bare", "Data", "Fine", "Full", "Heir", "function", "ghost"]
class Bare: pass
@dataclass
class Data:
    x: int
class Full:
    """Documented, its members not."""
    def method(self): pass
    async def coroutine(self): pass
    @property
    def fact(self): pass
    @cached_property
    def late(self): pass
    @classmethod
    def make(cls): pass
    @staticmethod
    def helper(): pass
    def _private(self): pass
class Heir(Full):
    """Its base has left something out."""
    def method(self): pass
class Base:
    def close(self):
        """Close it."""
class Fine(Base):
    """Documented as it should be."""
    limit = 3
    def close(self): pass
    @property
    def fact(self):
        """A fact."""
def function(): pass
'''


def test_missing_docstrings_of_public_names_are_found():
    module = ModuleType(f"{PACKAGE}.offenders")
    exec(compile(OFFENDERS, "<offenders>", "exec", dont_inherit=True), vars(module))
    members = ("coroutine", "fact", "helper", "late", "make", "method")
    assert undocumented(module) == [
        "Bare has no docstring",
        "Data has no docstring",
        *(f"Full.{name} has no docstring" for name in members),
        *(f"Heir.{name} has no docstring" for name in members),
        "function has no docstring",
        "ghost does not exist",
    ]
    del module.__all__
    assert undocumented(module) == [f"{PACKAGE}.offenders has no __all__"]
