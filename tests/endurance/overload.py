"""Too much for a service: `overload.py serve PORT` answers half a second after each question; `overload.py crowd GATE SERVICE PID MANY` asks
over MANY connections while the service with that id is stopped and its queue is full, and when it is back; `overload.py busy GATE MANY
ROUNDS` asks over MANY connections at once, again and again. Prints lines of figures; times are milliseconds."""
import asyncio
import collections
import os
import signal
import socket
import ssl
import sys
import time

ASK = b"GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n"
# Cannot be sent again, so it takes no connection that was idle for more than a second.
ACT = b"POST / HTTP/1.1\r\nHost: app.lan\r\nContent-Length: 0\r\n\r\n"
CONTEXT = ssl._create_unverified_context()


async def serve(port):
    async def one(reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(0.5)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", port, backlog=64)
    await server.serve_forever()


async def opened(port, many):
    """So many connections, a few handshakes at a time; from several addresses, for ports are counted for each."""
    turns = asyncio.Semaphore(16)

    async def one(n):
        async with turns:
            return await asyncio.open_connection("127.0.0.1", port, ssl=CONTEXT, server_hostname="app.lan", ssl_handshake_timeout=60, local_addr=(f"127.0.7.{1 + n % 8}", 0))

    return await asyncio.gather(*(one(n) for n in range(many)))


async def asked(connection, question=ASK):
    """What is answered, and after how long."""
    reader, writer = connection
    begun = time.monotonic()
    try:
        writer.write(question)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        told = head.split()[1].decode()
        if told == "503" and b"\r\nretry-after:" not in head.lower():
            told = "503-without-retry-after"
    except (OSError, asyncio.IncompleteReadError) as error:
        told = type(error).__name__
    return told, round(1000 * (time.monotonic() - begun))


async def all_asked(name, connections, question=ASK):
    found = collections.defaultdict(list)
    for told, took in await asyncio.gather(*(asked(one, question) for one in connections)):
        found[told].append(took)
    parts = [f"{len(times)} x {told} median {sorted(times)[len(times) // 2]} last {max(times)}" for told, times in sorted(found.items())]
    print(f"{name}: {', '.join(parts)}", flush=True)


def stopped(pid, port):
    """Stops the service and fills its queue, until the kernel is silent."""
    os.kill(pid, signal.SIGSTOP)
    held = []
    while len(held) < 5000:
        one = socket.socket()
        one.settimeout(0.2)
        try:
            one.connect(("127.0.0.1", port))
        except OSError:
            one.close()
            return held
        held.append(one)
    raise SystemExit("its queue has no end")


def back(pid, held):
    for one in held:
        one.close()
    os.kill(pid, signal.SIGCONT)


async def crowd(gate, service, pid, many):
    connections = await opened(gate, many)
    held = stopped(pid, service)
    try:
        await all_asked("stopped", connections)
        await all_asked("stopped still", connections)
        back(pid, held)
        await all_asked("first", connections[:1])
        await all_asked("back", connections)
        await asyncio.sleep(1.2)
        held = stopped(pid, service)
        asking = asyncio.ensure_future(all_asked("back after three seconds", connections, ACT))
        await asyncio.sleep(3)
    finally:
        back(pid, held)
    await asking
    await all_asked("all", connections)


async def busy(gate, many, rounds):
    begun = time.monotonic()
    connections = await opened(gate, many)
    print(f"opened: {many} after {time.monotonic() - begun:.1f} s", flush=True)
    for n in range(rounds):
        await all_asked(f"round {n + 1}", connections)


what, *numbers = sys.argv[1:]
asyncio.run({"serve": serve, "crowd": crowd, "busy": busy}[what](*map(int, numbers)))
