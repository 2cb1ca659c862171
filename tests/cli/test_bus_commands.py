"""`pub`, `sub`, `req` and `members`, as their users run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from open_channel.io.directory import ChannelFiles
from open_channel.sync import Channel, open_channel
from tests.processes import DEADLINE, Process, Processes, processes, wait_for

__all__ = ["processes"]  # the fixture

COMMAND = (sys.executable, "-m", "open_channel")


def command(*arguments: str, code: int = 0, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run a command to its end; a text is its standard input."""
    options.setdefault("text", True)
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, timeout=DEADLINE, **options)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


@pytest.fixture
def shop(channel_dir: Path) -> Iterator[Channel]:
    """Give a member of a channel, its host, that answers some requests."""
    with open_channel("shop", labels={"role": "web"}) as channel:
        yield channel


def subscriber(processes: Processes, *arguments: str) -> Process:
    """Start ``sub``; return it when it is subscribed."""
    process = processes("-m", "open_channel", "sub", "shop", *arguments)
    wait_for(lambda: "subscribed to" in process.errors(), "the subscription")
    return process


def printed(process: Process, number: int) -> list[str]:
    """Wait for so many lines of text."""
    wait_for(lambda: len(process.lines) >= number, f"{number} lines: {process.errors()}")
    return process.lines


def ended(process: Process, code: int = 0) -> None:
    assert process.popen.wait(DEADLINE) == code, process.errors()
    process.join()


# --- pub and sub ----------------------------------------------------------------------------------


def test_what_is_published_is_printed(shop: Channel, processes: Processes):
    sub = subscriber(processes, "orders.>", "--count", "5")
    done = command("pub", "shop", "orders.eu", "number 7")
    assert (done.stdout, done.stderr) == ("1 message published\n", "")
    assert command("pub", "shop", "orders.eu").stdout == "1 message published\n"
    shop.publish("orders.a", b"\xff\x1b[31m")
    shop.publish("orders.b", {"id": 7, "of": "ü"})
    shop.publish("elsewhere", "no")
    shop.publish("orders.c", "two\nlines")
    ended(sub)
    assert sub.lines == [
        "orders.eu number 7",
        "orders.eu",
        r"orders.a \xff\x1b[31m",
        'orders.b {"id":7,"of":"ü"}',
        r"orders.c two\nlines",
    ]


def test_json_both_ways(shop: Channel, processes: Processes):
    with shop.subscribe("orders.*") as orders:
        sub = subscriber(processes, "orders.*", "--json", "--count", "2")
        done = command("pub", "shop", "orders.eu", '{"id": [7, null]}', "--json")
        assert json.loads(done.stdout) == {"published": 1, "left_out": []}
        assert orders.get(DEADLINE).data == {"id": [7, None]}
        shop.publish("orders.us", b"\xff")
        ended(sub)
    first, second = sub.events
    assert first["sender"] != second["sender"] == shop.member
    assert (first["topic"], first["data"], first["missed"]) == ("orders.eu", {"id": [7, None]}, 0)
    assert second["data"] == {"base64": "/w=="}


def test_lines_of_standard_input(shop: Channel):
    with shop.subscribe("lines") as lines:
        done = command("pub", "shop", "lines", "-", input="one\r\ntwo\n\nthree")
        assert done.stdout == "4 messages published\n"
        found = [lines.get(DEADLINE).data for _ in range(4)]
    assert found == [b"one", b"two", b"", b"three"]


def test_lines_of_json(shop: Channel):
    with shop.subscribe("lines") as lines:
        done = command("pub", "shop", "lines", "-", "--json", input='1\n{"a": 2}\nno\n4', code=1)
        assert done.stderr.startswith("open-channel: line 3 is no JSON")
        assert [lines.get(DEADLINE).data for _ in range(2)] == [1, {"a": 2}]


def test_a_blank_line_is_no_json(shop: Channel):
    with shop.subscribe("lines") as lines:
        done = command("pub", "shop", "lines", "-", "--json", input="1\n\n3\n", code=1)
        assert done.stdout == ""
        assert done.stderr.startswith("open-channel: line 2 is no JSON")
        assert lines.get(DEADLINE).data == 1
        shop.publish("lines", "next")
        assert lines.get(DEADLINE).data == "next"


@pytest.mark.parametrize(
    "arguments", [("pub", "shop", "a", "-", "--whole"), ("req", "shop", "a", "-")]
)
def test_an_empty_standard_input_is_no_json(shop: Channel, arguments: tuple[str, ...]):
    done = command(*arguments, "--json", input="", code=1)
    assert done.stdout == ""
    assert done.stderr.startswith("open-channel: standard input is no JSON")


def test_standard_input_as_one_message(shop: Channel):
    content = os.urandom(3_000_000)
    with shop.subscribe("files") as files:
        done = command("pub", "shop", "files", "-", "--whole", input=content, text=False)
        assert done.stdout == b"1 message published\n"
        assert files.get(DEADLINE).data == content


def test_a_line_that_can_never_be_sent(shop: Channel):
    content = bytes(64 * 1024 * 1024 + 1)
    done = command("pub", "shop", "files", "-", input=content, text=False, code=1)
    assert b"more than 67108864 bytes" in done.stderr


def test_a_large_message_is_printed_whole(shop: Channel, processes: Processes):
    sub = subscriber(processes, "large", "--count", "2")
    shop.publish("large", b"x" * 5_000_000)
    shop.publish("large", b"\xff" * 2_000_000)
    ended(sub)
    assert [len(line) for line in sub.lines] == [5_000_006, 8_000_006]


def test_the_same_many_times(shop: Channel, processes: Processes):
    sub = subscriber(processes, "a", "--count", "2500")
    assert command("pub", "shop", "a", "b", "--count", "2500").stdout == "2500 messages published\n"
    ended(sub)
    assert sub.lines == ["a b"] * 2500


def test_nobody_hears_it(channel_dir: Path):
    done = command("pub", "shop", "a", "b")
    assert done.stdout == "1 message published\n"
    assert "nobody else is on the bus of channel 'shop'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("pub", "shop", "a b", "x"), "holds whitespace"),
        (("pub", "shop", "a.*", "x"), "the wildcard * is for subscribers"),
        (("pub", "", "a", "x"), "it is empty"),
        (("pub", "shop", "a", "{", "--json"), "DATA is no JSON"),
        (("sub", "shop", ">.a"), "> can only be the last token"),
    ],
)
def test_what_is_refused_is_one_line(channel_dir: Path, arguments: tuple[str, ...], reason: str):
    done = command(*arguments, code=1)
    assert done.stdout == ""
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_options_that_make_no_sense(channel_dir: Path):
    assert "a group has a name" in command("sub", "shop", "a", "--group", "", code=2).stderr
    assert "--all" in command("req", "shop", "a", "--all", "--to", "0" * 32, code=2).stderr


def test_the_jobs_of_a_group_are_shared(shop: Channel, processes: Processes):
    consumers = [subscriber(processes, "jobs", "--group", "g", "--json") for _ in range(2)]
    for number in range(200):
        shop.publish("jobs", number)
    assert shop.flush(DEADLINE) == ()  # each is done
    for consumer in consumers:
        consumer.signal(signal.SIGINT)
        ended(consumer)
    numbers = [event["data"] for consumer in consumers for event in consumer.events]
    assert sorted(numbers) == list(range(200))
    assert not any(event["redelivered"] for one in consumers for event in one.events)
    assert all(consumer.events for consumer in consumers)


def test_a_subscriber_takes_over(shop: Channel, processes: Processes):
    sub = subscriber(processes, "a", "--count", "1")
    with open_channel("shop", hosts=False) as other:
        shop.close()
        host = "the next host"
        wait_for(lambda: [m.pid for m in other.members if "broker" in m.hosting] == [sub.pid], host)
        other.publish("a", "still here")
        ended(sub)
    assert sub.lines == ["a still here"]


# --- how they end ---------------------------------------------------------------------------------


def presence(channel_dir: Path) -> set[str]:
    """The members' files."""
    files = ChannelFiles.of(str(channel_dir), "shop")
    start = Path(files.presence("")).name
    return {path.name for path in channel_dir.iterdir() if path.name.startswith(start)}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_is_an_orderly_leave(
    channel_dir: Path, processes: Processes, number: int, code: int
):
    sub = subscriber(processes, "a")
    assert len(presence(channel_dir)) == 1
    sub.signal(number)
    ended(sub, code)
    assert "Traceback" not in sub.errors()
    assert presence(channel_dir) == set()


def test_ctrl_c_before_the_last_message(channel_dir: Path, processes: Processes):
    sub = subscriber(processes, "a", "--count", "3")
    sub.signal(signal.SIGINT)
    ended(sub, 130)


def test_ctrl_c_while_standard_input_is_awaited(shop: Channel, processes: Processes):
    with shop.subscribe("a") as messages:
        pub = processes("-m", "open_channel", "pub", "shop", "a", "-")
        pub.send("first")
        assert messages.get(DEADLINE).data == b"first"
        pub.signal(signal.SIGINT)
        ended(pub, 130)
    assert pub.errors() == ""


def test_ctrl_c_while_nobody_reads(shop: Channel):
    with subprocess.Popen(
        [*COMMAND, "sub", "shop", "a"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as sub:
        assert b"subscribed" in sub.stderr.readline()
        for _ in range(8):
            shop.publish("a", b"x" * 1_000_000, confirm=True)
        assert sub.stdout.read(10) == b"a xxxxxxxx"  # it is in the midst of it
        sub.send_signal(signal.SIGINT)
        assert sub.wait(DEADLINE) == 0
        assert sub.stderr.read() == b""


def test_nobody_reads_any_more(shop: Channel):
    with subprocess.Popen(
        [*COMMAND, "sub", "shop", "a"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as sub:
        assert b"subscribed" in sub.stderr.readline()
        shop.publish("a", "first")
        assert sub.stdout.readline() == b"a first\n"
        sub.stdout.close()
        shop.publish("a", "second")
        assert sub.wait(DEADLINE) == 0
        assert sub.stderr.read() == b""


@pytest.mark.parametrize("arguments", [("members", "shop"), ("ls",), ("req", "shop", "$broker")])
def test_nobody_reads_at_all(shop: Channel, arguments: tuple[str, ...]):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, timeout=DEADLINE
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_it_prints_whatever_the_encoding(shop: Channel, processes: Processes):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with subprocess.Popen(
        [*COMMAND, "sub", "shop", "a", "--count", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as sub:
        assert b"subscribed" in sub.stderr.readline()
        shop.publish("a", "ünï")
        assert sub.communicate(timeout=DEADLINE) == (b"a \\xfcn\\xef\n", b"")


# --- req ------------------------------------------------------------------------------------------


def answer(request: Any) -> Any:
    if request.data == b"fail":
        raise LookupError("no\nsuch thing")
    return {"you": request.data, "raw": b"\xff"}


def test_a_request(shop: Channel):
    with shop.serve("price", answer):
        done = command("req", "shop", "price", "hello")
        assert done.stdout == '{"you":"hello","raw":{"base64":"/w=="}}\n'
        done = command("req", "shop", "price", '{"sku": 3}', "--json")
        assert json.loads(done.stdout)["you"] == {"sku": 3}
        assert json.loads(command("req", "shop", "price", "--json").stdout)["you"] == ""
        done = command("req", "shop", "price", "-", input="a\nb")
        assert json.loads(done.stdout)["you"] == "a\nb"
        assert '"you":"x"' in command("req", "shop", "price", "x", "--to", shop.member).stdout


def test_a_request_to_all(shop: Channel):
    with open_channel("shop") as other, shop.serve("price", answer), other.serve("price", answer):
        done = command("req", "shop", "price", "x", "--all")
        assert {line.split()[0] for line in done.stdout.splitlines()} == {
            shop.member,
            other.member,
        }
        document = json.loads(command("req", "shop", "price", "1", "--all", "--json").stdout)
        assert document.keys() == {shop.member, other.member}
        assert all(reply["reply"]["you"] == 1 for reply in document.values())


def test_some_of_all_fail(shop: Channel):
    with (
        open_channel("shop") as other,
        shop.serve("price", answer),
        other.serve("price", lambda request: "good"),
    ):
        done = command("req", "shop", "price", "fail", "--all", code=1)
        assert done.stdout == f"{other.member} good\n"
        assert "1 of 2 failed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nothing", "x"), "nobody serves 'nothing'"),
        (("price", "fail"), r"LookupError: no\nsuch thing"),
        (("slow", "x", "--timeout", "0.2"), "no reply from 'slow' within 0.2 s"),
        (("slow", "x", "--all", "--timeout", "0.2"), "no replies from 'slow' within 0.2 s"),
        (("nothing", "x", "--all"), "nobody serves 'nothing'"),
        (("price", "x", "--to", "abc"), "a member's id is 32 hexadecimal digits"),
        (("price", "x", "--to", "ab" * 16), "nobody serves 'price'"),
        (("price", "{", "--json"), "DATA is no JSON"),
    ],
)
def test_a_request_that_fails(shop: Channel, arguments: tuple[str, ...], reason: str):
    release = threading.Event()

    def slow(request: Any) -> None:
        release.wait(DEADLINE)

    with (
        shop.serve("price", answer),
        shop.serve("slow", slow),
        subprocess.Popen(
            [*COMMAND, "req", "shop", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as asking,
    ):
        said = asking.stderr.readline()
        release.set()  # or it waits 5 s, when it leaves, for what is in hand
        output, more = asking.communicate(timeout=DEADLINE)
    assert (asking.returncode, output, more) == (1, "", "")
    assert reason in said


# --- members --------------------------------------------------------------------------------------


def test_members(shop: Channel):
    with open_channel("shop", labels={"role": "cr\x1bon", "x": "y"}) as other:
        lines = [line.split() for line in command("members", "shop").stdout.splitlines()]
        pid = str(os.getpid())
        assert [shop.member, pid, "broker", "role=web"] in lines
        assert [other.member, pid, r"role=cr\x1bon,", "x=y"] in lines
        document = json.loads(command("members", "shop", "--json").stdout)
    assert document["channel"] == "shop"
    by_id = {member["id"]: member for member in document["members"]}
    assert by_id.keys() == {shop.member, other.member}
    assert by_id[shop.member]["hosting"] == ["broker"]
    assert by_id[other.member]["labels"] == {"role": "cr\x1bon", "x": "y"}


def test_members_that_come_and_go(shop: Channel, processes: Processes):
    text = processes("-m", "open_channel", "members", "shop", "--watch")
    printed(text, 1)
    as_json = processes("-m", "open_channel", "members", "shop", "--watch", "--json")
    as_json.expect("change")
    with open_channel("shop") as other:
        wait_for(lambda: any(f"joined   {other.member}" in one for one in text.lines), "joined")
    wait_for(lambda: any(f"left     {other.member}" in one for one in text.lines), "left")
    as_json.wait(lambda events: [e for e in events if e["change"] == "left"], "left")
    for process in (as_json, text):
        process.signal(signal.SIGINT)
        ended(process)
    assert text.lines[0] == f"present  {shop.member}  pid {os.getpid()}  broker  role=web"
    changes = [event["change"] for event in as_json.events if event["id"] == other.member]
    assert changes == ["joined", "left"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("members", "shop"),
        ("members", "shop", "--json"),
        ("members", "shop", "--watch"),
        ("req", "shop", "price", "x"),
        ("req", "shop", "price", "7", "--all", "--json"),
        ("top", "shop"),
        ("top", "shop", "--json"),
    ],
)
def test_nobody_is_there(channel_dir: Path, arguments: tuple[str, ...]):
    done = command(*arguments, code=1)
    expected = f"nobody is on the bus of channel 'shop' in {channel_dir} ($OPEN_CHANNEL_DIR)"
    assert (done.stdout, done.stderr) == ("", f"open-channel: {expected}\n")
    assert list(channel_dir.iterdir()) == []
