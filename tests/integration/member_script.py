"""A process that opens a channel and does what the lines of its standard input say.

It tells what happens in lines of JSON. Its only argument is its configuration, in JSON too; see
``Config``. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from open_channel import Channel, ChannelError, ChannelSocket, Limits, open_channel
from open_channel.io import host
from open_channel.io.lockfile import LockFile


@dataclass
class Config:
    name: str = "chat"
    listens: bool = True
    limits: dict[str, float] = field(default_factory=dict)
    timeout: float | None = 30.0
    count: int = 1  # processes, forked at once
    once: bool = False  # connect, have one answer, close, end
    stop_at: str = ""  # "Class.method-" or "...+": SIGSTOP itself before or after the first call
    backlog: int = 0
    handshake: float = 0.0  # seconds that a connection may take to say hello
    uvloop: bool = False
    slow: float = 0.0  # seconds that the listener takes for a message "slow ..."


def tell(**event: Any) -> None:
    os.write(1, (json.dumps({"pid": os.getpid(), **event}) + "\n").encode())


class Member:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.loop = asyncio.get_running_loop()
        listener = self.listen if config.listens else None
        self.channel = open_channel(config.name, listener, limits=Limits(**config.limits))  # type: ignore[arg-type]
        self.over = asyncio.Event()
        self.socket: ChannelSocket
        self.tasks: set[asyncio.Task[None]] = set()

    async def listen(self, socket: ChannelSocket) -> None:
        peer = socket.peer.pid if socket.peer else 0
        async for message in socket:
            text = message.decode()
            tell(handled=text, sender=peer, redelivered=socket.redelivered)
            if text.startswith("slow"):
                await asyncio.sleep(self.config.slow)
            socket.write(f"{os.getpid()} {text}".encode())
        tell(listener_ended=peer)

    async def run(self) -> None:
        try:
            self.socket = self.channel.connect(self.config.timeout)
            watch(self.channel)
        except ChannelError as error:
            tell(refused=type(error).__name__, text=str(error))
            return
        if self.config.once:
            await self.once()
            return
        self.start(self.read())
        self.loop.add_reader(0, self.command)
        await self.over.wait()
        self.loop.remove_reader(0)
        self.socket.destroy()
        await self.channel.close(timeout=0)

    async def once(self) -> None:
        async with self.socket as socket:
            socket.write(b"once")
            tell(reply=(await socket.read()).decode())

    def start(self, coroutine: Any) -> None:
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def read(self) -> None:
        try:
            await self.socket.wait_connected()
            async for message in self.socket:
                pid, _, text = message.decode().partition(" ")
                tell(reply=text or pid, host=int(pid))
        except ChannelError as error:
            tell(refused=type(error).__name__, text=str(error), last=getattr(error, "last", ""))

    def command(self) -> None:
        lines = os.read(0, 65536)
        if not lines:
            self.over.set()
            self.loop.remove_reader(0)
        for line in lines.splitlines():
            do, *arguments = json.loads(line)
            getattr(self, f"do_{do}")(*arguments)

    def do_write(self, *texts: str) -> None:
        for text in texts:
            self.socket.write(text.encode())

    def do_stream(self, first: int, last: int, pause: float = 0.0) -> None:
        self.start(self.stream(first, last, pause))

    async def stream(self, first: int, last: int, pause: float) -> None:
        for number in range(first, last + 1):
            self.socket.write(str(number).encode())
            await asyncio.sleep(pause)
        tell(streamed=last)

    def do_state(self, question: int) -> None:
        peer = self.channel.peer
        tell(
            state=self.channel.state,
            question=question,
            peer=peer.pid if peer and self.channel.connected else 0,
            hosting=self.channel.hosting,
        )

    def do_block(self, seconds: float, *, gil: bool = False) -> None:
        tell(blocking=seconds)
        if gil:
            ctypes.PyDLL(None).usleep(int(seconds * 1e6))
        else:
            time.sleep(seconds)
        tell(blocked=seconds)

    def do_hold(self, seconds: float) -> None:
        """Hold the interpreter: no thread of this process goes on."""
        self.do_block(seconds, gil=True)

    def do_fork(self) -> None:
        if not (child := os.fork()):
            signal.pause()
        tell(forked=child)

    def do_libc_fork(self) -> None:
        """Fork as an extension does it, without the interpreter's knowledge."""
        libc = ctypes.PyDLL(None)
        if not (child := libc.fork()):
            libc.pause()
        tell(forked=child)

    def do_close(self) -> None:
        self.start(self.close())

    async def close(self) -> None:
        await self.channel.close()
        tell(closed=True)

    def do_exit(self) -> None:
        self.over.set()


def watch(channel: Channel) -> None:
    """Tell what the link tells the channel."""
    client = channel._client
    assert client is not None
    connected, lost, ended = client.link_connected, client.link_lost, client.link_ended

    def link_connected(welcome: Any, uid: int) -> None:
        connected(welcome, uid)
        tell(connected=welcome.pid, epoch=welcome.epoch, resumed=welcome.resumed)

    def link_lost(reason: str) -> None:
        lost(reason)
        tell(lost=reason)

    def link_ended(error: ChannelError | None) -> None:
        ended(error)
        tell(ended=str(error))

    client.__dict__.update(
        link_connected=link_connected, link_lost=link_lost, link_ended=link_ended
    )


def stop_at(place: str) -> None:
    """Stop this process once, before ("-") or after ("+") a call of a method.

    Of calls that are about files, only those about the listener service's lock.
    """
    owner, method = place[:-1].split(".")
    kind: Any = {"LockFile": LockFile, "Host": host.Host, "os": os}[owner]
    is_class_method = isinstance(kind.__dict__[method], classmethod)
    original = getattr(kind, method)
    pending = [place]

    def stop() -> None:
        if pending:
            pending.clear()
            tell(stopping=place)
            os.kill(os.getpid(), signal.SIGSTOP)

    def call(*arguments: Any, **keywords: Any) -> Any:
        paths = [str(getattr(argument, "path", argument)) for argument in arguments]
        here = owner == "Host" or any(path.endswith(".l") for path in paths)
        if here and place.endswith("-"):
            stop()
        result = original(*arguments[is_class_method:], **keywords)
        if here and place.endswith("+") and (method != "acquire" or result is not None):
            stop()
        return result

    setattr(kind, method, classmethod(call) if is_class_method else call)


async def main(config: Config) -> None:
    await Member(config).run()


def run(config: Config) -> None:
    if config.uvloop:
        import_module("uvloop").run(main(config))
    else:
        asyncio.run(main(config))
    tell(ending=True, threads=threading.active_count())


def crowd(config: Config) -> None:
    """Fork all the processes first, then let them go at once."""
    go, gone = os.pipe()
    children = []
    for _ in range(config.count):
        if not (child := os.fork()):
            os.close(gone)
            os.read(go, 1)
            run(config)
            return
        children.append(child)
    os.close(gone)
    for child in children:
        os.waitpid(child, 0)
    tell(crowd=config.count)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    config = Config(**json.loads(sys.argv[1]))
    if config.stop_at:
        stop_at(config.stop_at)
    if config.backlog:
        host._BACKLOG = config.backlog
    if config.handshake:
        host._HANDSHAKE = config.handshake
    if config.count > 1:
        crowd(config)
    else:
        run(config)
