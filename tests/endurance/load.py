"""Mixed load through the gate until a time: `load.py PORT CA USER PASSWORD SECONDS`. Prints what it did, as JSON.

Every task does one thing again and again, in a tempo that leaves room for others: honest requests over HTTP/1.1 and HTTP/2, uploads
whose hash is compared, WebSockets, right and wrong logins, and clients that leave at every moment at which one can leave."""
import asyncio
import base64
import collections
import hashlib
import json
import os
import random
import ssl
import sys
import time

import websockets

port, ca, user, password, seconds = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5])
end = time.monotonic() + seconds
done = collections.Counter()
wrong = collections.Counter()
trust = ssl.create_default_context(cafile=ca)


def basic(word):
    return "Basic " + base64.b64encode(f"{user}:{word}".encode()).decode()


async def dial():
    return await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname="app.lan")


async def answer(reader):
    """Status and body of one answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    status = int(head.split()[1])
    if "transfer-encoding: chunked" in head:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return status, body
    length = next((int(l.split(":")[1]) for l in head.split("\r\n") if l.startswith("content-length:")), 0)
    return status, await reader.readexactly(length)


def head(method, path, *lines):
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: app.lan:{port}", *lines, "", ""]).encode()


async def keep_alive():
    reader, writer = await dial()
    for _ in range(50):
        writer.write(head("GET", "/"))
        status, body = await answer(reader)
        note("get", status in (200, 502, 503, 504) and (status != 200 or body == b"hello\n"), status)
        await asyncio.sleep(0.01)
    writer.close()


async def upload():
    reader, writer = await dial()
    data = os.urandom(random.choice([0, 1, 1000, 100_000, 1_000_000]))
    if random.random() < 0.5:
        writer.write(head("PUT", "/hash", f"Content-Length: {len(data)}") + data)
    else:
        parts = [data[i : i + 30_000] for i in range(0, len(data), 30_000)]
        writer.write(head("PUT", "/hash", "Transfer-Encoding: chunked"))
        writer.write(b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n")
    status, body = await answer(reader)
    wanted = hashlib.sha256(data).hexdigest()
    note("upload", status in (502, 503, 504) or body.decode().split()[1:] == [str(len(data)), wanted], status)
    writer.close()


async def leave():
    """Leaves within a handshake, a head, an upload, an answer."""
    moment = random.randrange(4)
    if moment == 0:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01\x02\x00\x01")
    else:
        reader, writer = await dial()
        text = [b"GET / HTTP/1.1\r\nHo", head("PUT", "/hash", "Content-Length: 100000") + b"x" * 5000, head("GET", "/events")]
        writer.write(text[moment - 1])
        if moment == 3:
            await reader.read(100)
    await asyncio.sleep(random.random() / 10)
    writer.transport.abort()
    note(f"left {moment}", True, 0)


async def log_in():
    reader, writer = await dial()
    right = random.random() < 0.9
    writer.write(head("GET", "/private", "Authorization: " + basic(password if right else "wrong")))
    status, _ = await answer(reader)
    # Wrong passwords lock this client out for a while, except where the user is known to live.
    note("right login" if right else "wrong login", status in ((200, 429, 502, 503, 504) if right else (401, 429, 503)), status)
    writer.close()
    await asyncio.sleep(0.5)


async def talk():
    url = f"wss://app.lan:{port}/chat"
    async with websockets.connect(url, ssl=trust, host="127.0.0.1", port=port, compression=None, proxy=None) as socket:
        for _ in range(50):
            message = os.urandom(random.choice([1, 100, 10_000]))
            await socket.send(message)
            note("message", await socket.recv() == message, 0)
            await asyncio.sleep(0.02)


async def run(*command):
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def http2():
    code, out = await run("h2load", "-n", "200", "-c", "2", "-m", "10", f"--connect-to=127.0.0.1:{port}", f"https://app.lan:{port}/")
    note("h2load", code == 0 and "200 done" in out, code)
    await asyncio.sleep(0.5)


async def http2_upload():
    ask = ["curl", "-s", "--max-time", "20", "--http2", "--cacert", ca, "--resolve", f"app.lan:{port}:127.0.0.1", "-w", "%{http_code}"]
    code, out = await run(*ask, "-T", ca, f"https://app.lan:{port}/hash")
    note("http2 upload", out.endswith(("200", "502", "503", "504")), out[-3:])
    # And one that leaves before its stream of events is at its end.
    code, out = await run(*ask, "--max-time", "0.3", f"https://app.lan:{port}/events")
    # Unless the service was started anew just then.
    note("http2 left", code in (28, 92) or out.endswith(("502", "503", "504")), (code, out[-3:]))


def note(what, fine, found):
    done[what] += 1
    if not fine:
        wrong[f"{what}: {found}"] += 1


async def again(task):
    while time.monotonic() < end:
        try:
            await asyncio.wait_for(task(), 60)
        except (OSError, EOFError, asyncio.IncompleteReadError, websockets.WebSocketException) as error:
            # The service is started anew now and then: what was under way is cut.
            done[f"cut: {task.__name__} {type(error).__name__}"] += 1
            await asyncio.sleep(0.2)
        except (asyncio.TimeoutError, ValueError, IndexError) as error:
            wrong[f"{task.__name__}: {type(error).__name__} {error}"] += 1


async def main():
    tasks = [keep_alive] * 4 + [upload] * 2 + [leave] * 3 + [log_in] + [talk] * 3 + [http2] + [http2_upload]
    await asyncio.gather(*(again(task) for task in tasks))
    print(json.dumps({"done": dict(sorted(done.items())), "wrong": dict(sorted(wrong.items()))}))


asyncio.run(main())
