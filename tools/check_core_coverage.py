"""Check that each module of the two cores is covered wholly by its own test file alone.

For every ``src/open_channel/protocol/NAME.py`` this runs ``tests/protocol/test_NAME.py`` in a
process of its own, measures the branches of that one module, and fails with the missing lines
where they are not all covered. The same for ``bus/core``. Coverage that a module owes to the tests
of another is luck.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import sys
import time
import tomllib
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path("src/open_channel")
TESTS = Path("tests")
CORES = (Path("protocol"), Path("bus/core"))
_WHOLE = 100.0
PYTEST = ["-q", "-x", "--no-header", "-p", "no:randomly", "-p", "no:cacheprovider"]


def modules() -> list[Path]:
    """Return the cores' modules, relative to the library's folder."""
    return sorted(
        path.relative_to(ROOT / SOURCE)
        for core in CORES
        for path in (ROOT / SOURCE / core).rglob("*.py")
        if path.name != "__init__.py"
    )


def exclusions() -> list[str]:
    """Return the patterns of lines that need no test, as `pyproject.toml` has them."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns: list[str] = config["tool"]["coverage"]["report"]["exclude_also"]
    return patterns


def load_plugins() -> None:
    """Let pytest import what each module's tests need, the library excepted.

    A run that finds no test does that: plugins, and Hypothesis with its assertions rewritten, which
    together take longer than most modules' tests.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*PYTEST, str(ROOT / TESTS / "conftest.py")])
    loaded = [name for name in sys.modules if name.partition(".")[0] == "open_channel"]
    assert not loaded, f"imported before it is measured: {loaded}"


def check(module: Path) -> str:
    """Measure one module; return what is wrong with it, or nothing."""
    source = ROOT / SOURCE / module
    tests = ROOT / TESTS / module.parent / f"test_{module.name}"
    if not tests.exists():
        return f"{SOURCE / module}: there is no {tests.relative_to(ROOT)}"
    measured = coverage.Coverage(
        data_file=None, config_file=False, branch=True, include=[str(source)]
    )
    measured.set_option("report:exclude_also", exclusions())
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        measured.start()
        try:
            status = pytest.main([*PYTEST, str(tests)])
        finally:
            measured.stop()
    if status != pytest.ExitCode.OK:
        return f"{tests.relative_to(ROOT)}: the tests fail\n{output.getvalue()}"
    report = io.StringIO()
    try:
        percent = measured.report(show_missing=True, file=report)
    except coverage.exceptions.NoDataError:
        return f"{SOURCE / module}: {tests.relative_to(ROOT)} never runs it"
    return "" if percent >= _WHOLE else report.getvalue().strip()


def main() -> int:
    """Check all modules; return the exit status."""
    os.chdir(ROOT)
    began = time.monotonic()
    names = modules()
    if not names:
        print(f"there is no module in {SOURCE}")
        return 1
    # Forked, because pytest and its plugins need not be imported for each module again; a process
    # for each, because a module that is imported already has no import left to measure.
    load_plugins()
    context = multiprocessing.get_context("fork")
    with context.Pool(min(2, len(names)), maxtasksperchild=1) as pool:
        problems = [problem for problem in pool.map(check, names, chunksize=1) if problem]
    print(*problems, sep="\n\n", end="\n\n" if problems else "")
    seconds = time.monotonic() - began
    covered = f"{len(names) - len(problems)} of {len(names)}"
    print(f"core modules covered wholly by their own tests: {covered} ({seconds:.1f} s)")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
