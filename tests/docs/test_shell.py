"""The shell blocks of the documentation: what begins with ``open-channel`` is run."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.snippets import ROOT, commands, pages
from tests.processes import DEADLINE, Processes, processes

__all__ = ["processes"]  # the fixture

ALL = [(page, line, command) for page in pages() for line, command in commands(page)]
OURS = sorted({command for _, _, command in ALL if command.startswith("open-channel")})

# What a page may tell its reader to run beside them; it is tested elsewhere or not ours.
OTHERS = ("make", "pip", "python", "gunicorn", "uvicorn", "kill", "curl", "export", "cd")

# These go on until Ctrl-C, unless an option says when they end.
ENDLESS = {"sub", "top"}
ENDS = ("--count", "--seconds")

HOST = """
import sys
import threading
from open_channel.sync import open_channel

def listener(socket):
    for message in socket:
        socket.write(message)

sockets = [open_channel(name, listener).connect() for name in ("chat", "hello", "visits")]
for socket in sockets:
    socket.wait_connected()

bus = open_channel("shop")
bus.serve("price", lambda request: 3 * request.data).__enter__()
bus.serve("stats", lambda request: {"requests": 7}).__enter__()
bus.subscribe("orders.*").__enter__()

def publish():
    while not done.wait(0.05):
        bus.publish("orders.eu", {"id": 7})
        bus.publish("jobs", "work")

done = threading.Event()
publishing = threading.Thread(target=publish)
publishing.start()
print('{"ready": true}', flush=True)
sys.stdin.readline()
done.set()
publishing.join()
"""


@pytest.mark.parametrize("command", OURS)
def test_a_command_of_ours_runs(command: str, channel_dir: Path, processes: Processes):
    processes("-c", HOST).expect("ready")
    arguments = shlex.split(command.partition("|")[0], comments=True)
    arguments[0:1] = [str(Path(sys.executable).with_name("open-channel"))]
    given = None
    if "<" in arguments:
        *arguments, _, file = arguments
        given = (ROOT / file).read_text(encoding="utf-8")
    if arguments[1:2] == ["demo"]:
        arguments += ["--plain", "--seconds=1.5", "--every=0.5"]
    elif arguments[1:2] == ["top"] and "--seconds" in arguments:
        arguments += ["--seconds=1.2"]
    endless = arguments[1] in ENDLESS or "--watch" in arguments
    if endless and not any(option in arguments for option in ENDS):
        check_until_interrupted(arguments)
        return
    done = subprocess.run(
        arguments, input=given, capture_output=True, text=True, timeout=2 * DEADLINE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def check_until_interrupted(arguments: list[str]) -> None:
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, errors


@pytest.mark.parametrize(("page", "line", "command"), ALL)
def test_no_command_is_unknown(page: Path, line: int, command: str):
    word = command.split(maxsplit=1)[0]
    assert word == "open-channel" or word in OTHERS, f"{page}:{line}"


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    said = {command.split()[1] for _, _, command in ALL if command.startswith("make ")}
    assert said
    assert said <= targets


def test_every_extra_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = "".join(page.read_text(encoding="utf-8") for page in pages())
    said = {
        name for extra in re.findall(r"open-channel\[(.+?)\]", text) for name in extra.split(",")
    }
    assert said == set(project["optional-dependencies"])


def test_there_are_commands():
    assert len(OURS) >= 4
