"""WebSockets: `sockets.py serve PORT` gives back what it gets; `sockets.py ask PORT CA COUNT` sends many through the gate."""
import asyncio
import random
import ssl
import sys

import websockets


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def serve(port):
    async with websockets.serve(echo, "127.0.0.1", port, max_size=None, compression=None):
        await asyncio.Future()


async def ask(port, ca, count):
    trust = ssl.create_default_context(cafile=ca)
    random.seed(7)
    sizes = [random.choice([0, 1, 125, 126, 1000, 65535, 65536]) for _ in range(count)]
    messages = [f"{n}:".encode() + b"x" * size for n, size in enumerate(sizes)]
    url = f"wss://app.lan:{port}/chat"
    async with websockets.connect(
        url, ssl=trust, host="127.0.0.1", port=port, max_size=None, compression=None, proxy=None
    ) as socket:

        async def send():
            for message in messages:
                await socket.send(message)

        sender = asyncio.create_task(send())
        for message in messages:
            assert await socket.recv() == message, "another message than was sent"
        await sender
        await socket.ping()
    print(count, socket.close_code)


if sys.argv[1] == "serve":
    asyncio.run(serve(int(sys.argv[2])))
else:
    asyncio.run(ask(int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
