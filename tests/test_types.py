"""What type checkers know of a user's program, in their strict modes and for the oldest Python."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from open_channel import Job

SOURCE = Path(__file__).resolve().parent.parent / "src"
OLDEST = "3.11"
DEADLINE = 55.0

PROGRAM = """
from typing import assert_type

from open_channel import Batch, Job, Message
from API import Channel, Subscription


async def messages_of(channel: Channel) -> None:
    async with channel.subscribe("t", overflow="block", prefetch=1, queue=9, type=int) as messages:
        assert_type(messages, Subscription[Message])
        assert_type(await messages.get(), Message)
        async for message in messages:
            assert_type(message, Message)
        async for batch in messages.batches():
            assert_type(batch, Batch)
            for one in batch:
                assert_type(one, Message)
        await anything(messages)


async def jobs_of(channel: Channel) -> None:
    async with channel.subscribe(
        "t", group="g", overflow="block", ack="manual", prefetch=1, queue=9, type=int
    ) as jobs:
        assert_type(jobs, Subscription[Job])
        job = await jobs.get()
        assert_type(job, Job)
        job.ack()
        async for job in jobs:
            assert_type(job, Job)
            if not job.lost:
                job.reject()
        await anything(jobs)
        await only_jobs(jobs)


async def either_of(channel: Channel, group: str | None) -> None:
    async with channel.subscribe("t", group=group) as either:
        assert_type(await either.get(), Message)
        async for message in either:
            if isinstance(message, Job):
                message.ack()
        await anything(either)


async def anything(messages: Subscription) -> None:
    assert_type(await messages.get(), Message)


async def only_jobs(jobs: Subscription[Job]) -> None:
    assert_type(await jobs.get(), Job)
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Give a folder with the program as asyncio's users write it, and as the others do."""
    blocking = re.sub(r"\b(async|await) ", "", PROGRAM)
    for name, api, text in (
        ("with_asyncio.py", "open_channel", PROGRAM),
        ("blocking.py", "open_channel.sync", blocking),
    ):
        (tmp_path / name).write_text(text.replace("API", api), encoding="utf-8")
    return tmp_path


def complaints(folder: Path, *command: str) -> str:
    """Return what a checker says that is run there; nothing when it is content."""
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


@pytest.mark.no_cover  # no line of the library runs
def test_mypy_knows_messages_and_jobs_apart(programs: Path):
    options = "--strict", f"--python-version={OLDEST}", "--config-file=", "--cache-dir=cache"
    assert not complaints(programs, "mypy", *options, "with_asyncio.py", "blocking.py")


@pytest.mark.no_cover
def test_pyright_knows_messages_and_jobs_apart(programs: Path):
    options = {
        "typeCheckingMode": "strict",
        "pythonVersion": OLDEST,
        "extraPaths": [str(SOURCE)],
    }
    (programs / "pyrightconfig.json").write_text(json.dumps(options), encoding="utf-8")
    assert not complaints(programs, "basedpyright", "--pythonpath", sys.executable)


@pytest.mark.parametrize("name", ["with_asyncio.py", "blocking.py"])
def test_the_same_annotations_can_be_evaluated(programs: Path, name: str):
    namespace = runpy.run_path(str(programs / name))
    assert get_type_hints(namespace["only_jobs"])["jobs"] == namespace["Subscription"][Job]
