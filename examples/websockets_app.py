"""A chat whose websockets are spread over the workers of a server: everybody hears everybody.

    uvicorn --workers 4 --app-dir examples websockets_app:app

Then open http://127.0.0.1:8000 in several windows. The server must know websockets:
`pip install 'uvicorn[standard]'`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from open_channel import Subscription, open_channel

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PAGE = b"""<!doctype html><title>Chat</title>
<ol id="said"></ol><form id="form"><input id="text" autofocus></form>
<script>
const socket = new WebSocket(location.href.replace("http", "ws"));
socket.onmessage = (event) => {
    const line = document.createElement("li");
    line.textContent = event.data;
    said.append(line);
};
form.onsubmit = (event) => {
    event.preventDefault();
    socket.send(text.value);
    form.reset();
};
</script>
"""

channel = open_channel("examples.websockets")  # starts nothing before the first websocket


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await websocket(receive, send)
    else:
        await page(send)


async def page(send: Send) -> None:
    headers = [(b"content-type", b"text/html")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE})


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await channel.close()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def websocket(receive: Receive, send: Send) -> None:
    await receive()  # "websocket.connect"
    # A browser that reads too slowly loses the oldest messages, and holds nobody up.
    async with channel.subscribe("chat", queue=1024 * 1024) as messages:
        await send({"type": "websocket.accept"})
        passing = asyncio.create_task(pass_on(messages, send))
        try:
            async for text in texts(receive):
                await channel.publish("chat", text)
        finally:
            passing.cancel()


async def pass_on(messages: Subscription, send: Send) -> None:
    async for message in messages:
        if message.missed:
            await send({"type": "websocket.send", "text": "(you have missed something)"})
        await send({"type": "websocket.send", "text": message.data})


async def texts(receive: Receive) -> AsyncIterator[str]:
    while (message := await receive())["type"] == "websocket.receive":
        yield message.get("text") or ""
