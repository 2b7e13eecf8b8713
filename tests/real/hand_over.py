"""Clients of a gate whose process is exchanged while they ask: `hand_over.py load PORT STOP` asks until the file STOP is there, over
new connections, kept ones and HTTP/2, and prints what went wrong. `hand_over.py die SOCKET WHERE` is a process that asks for the
place of a gate and dies: after the `offer`, when `ready`, or with what was `given`; with `block` or `end` it does that to the sockets first. `hand_over.py silent SOCKET` says nothing more when
it has that, beside three hundred that have never said anything; when the gate has closed the connection it says that it serves."""
import array
import asyncio
import base64
import collections
import json
import os
import socket
import ssl
import sys

trust = ssl._create_unverified_context()


def note(what):
    done[what] += 1


done, wrong = collections.Counter(), []


async def dial(port, *protocols):
    context = ssl._create_unverified_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="app.lan")


async def h1_answer(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:"))
    body = await reader.readexactly(length)
    if not head.startswith("http/1.1 200") or body != b"hello\n":
        raise ValueError(f"{head[:80]} {body[:40]}")
    return "connection: close" in head


async def new_connections(port):
    reader, writer = await dial(port)
    writer.write(b"GET / HTTP/1.1\r\nHost: app.lan:%d\r\nConnection: close\r\n\r\n" % port)
    await h1_answer(reader)
    writer.close()
    note("new connection")


async def kept_connection(port, stopped):
    reader, writer = await dial(port)
    while not stopped():
        writer.write(b"GET / HTTP/1.1\r\nHost: app.lan:%d\r\n\r\n" % port)
        is_last = await h1_answer(reader)
        note("kept connection")
        if is_last:
            note("told to leave")
            break
    writer.close()


async def h2_connection(port, stopped):
    """Streams of a connection, eight at a time. After a GOAWAY those that it names are answered, others are asked again elsewhere."""
    import h2.config, h2.connection, h2.events

    reader, writer = await dial(port, "h2")
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    left, last, bodies = {}, None, collections.Counter()
    while True:
        while last is None and len(left) < 8 and not stopped():
            stream = connection.get_next_available_stream_id()
            head = [(":method", "GET"), (":scheme", "https"), (":authority", f"app.lan:{port}"), (":path", "/")]
            connection.send_headers(stream, head, end_stream=True)
            left[stream] = None
        writer.write(connection.data_to_send())
        if not left:
            break
        data = await reader.read(65536)
        if not data:
            raise ValueError(f"closed with {len(left)} streams that were begun, last {last}")
        # `h2` refuses to go on after a GOAWAY, so it is read here.
        frames, data = data, b""
        pending = getattr(reader, "rest", b"") + frames
        while len(pending) >= 9 and len(pending) >= 9 + int.from_bytes(pending[:3], "big"):
            length = 9 + int.from_bytes(pending[:3], "big")
            frame, pending = pending[:length], pending[length:]
            if frame[3] == 7:
                last = int.from_bytes(frame[9:13], "big") & 0x7FFFFFFF
                code = int.from_bytes(frame[13:17], "big")
                if code:
                    raise ValueError(f"GOAWAY with code {code}")
                note("h2 told to leave")
                for stream in [s for s in left if s > last]:
                    del left[stream]
                    note("h2 asked again")
            else:
                data += frame
        reader.rest = pending
        for event in connection.receive_data(data):
            stream = getattr(event, "stream_id", None)
            if isinstance(event, h2.events.ResponseReceived):
                left[stream] = dict(event.headers).get(b":status")
            elif isinstance(event, h2.events.DataReceived):
                bodies[stream] += len(event.data)
                connection.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, h2.events.StreamEnded):
                status = left.pop(stream)
                if status not in (b"200", "200") or bodies.pop(stream) != 6:
                    raise ValueError(f"an answer with {status}")
                note("h2")
            elif isinstance(event, h2.events.StreamReset):
                raise ValueError(f"stream {stream} was reset with {event.error_code}")
    writer.close()


async def load(port, stop):
    stopped = lambda: os.path.exists(stop)

    async def again(task, *arguments):
        while not stopped():
            try:
                await asyncio.wait_for(task(port, *arguments), 60)
            except Exception as error:
                wrong.append(f"{task.__name__}: {type(error).__name__} {error}")
                await asyncio.sleep(0.1)

    tasks = [again(new_connections) for _ in range(3)]
    tasks += [again(kept_connection, stopped) for _ in range(3)]
    tasks += [again(h2_connection, stopped) for _ in range(2)]

    async def tell():
        while not stopped():
            print(sum(done.values()), flush=True)
            await asyncio.sleep(0.2)

    await asyncio.gather(*tasks, tell())
    print(json.dumps({"done": dict(sorted(done.items())), "wrong": len(wrong), "first": wrong[:5]}))


def die(path, where, spoils=None):
    """With a gate that goes on as if nothing had been asked. What is done to the sockets before is done to its own."""
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(path)
    stream.sendall(b'{"v":1,"do":"take-over"}\n')
    fds = []

    def line():
        text = b""
        while not text.endswith(b"\n"):
            data, ancillary, _, _ = stream.recvmsg(1 << 16, socket.CMSG_SPACE(64 * 4))
            for level, kind, some in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.extend(array.array("i", some))
            if not data:
                return "closed"
            text += data
        return text.decode().strip()

    offer = line()
    if offer == "closed" or "done" not in offer:
        print(offer)
        return
    print(len(fds), "sockets")
    for fd in fds if spoils else []:
        one = socket.socket(fileno=fd)
        if spoils == "block":
            one.setblocking(True)
        else:
            one.shutdown(socket.SHUT_RD)
        one.detach()
    if where == "offer":
        return
    stream.sendall(b"ready\n")
    if where == "ready":
        return
    given = json.loads(line())
    print("given", sorted(given), flush=True)
    if where != "silent":
        return
    stream.settimeout(60)
    print("then", line(), flush=True)
    try:
        stream.sendall(b"taken\n")
        print("late: taken")
    except OSError as error:
        print("late:", type(error).__name__)


def silent(path):
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(300)]
    for one in crowd:
        one.connect(path)
    die(path, "silent")


if sys.argv[1] == "load":
    asyncio.run(load(int(sys.argv[2]), sys.argv[3]))
elif sys.argv[1] == "silent":
    silent(sys.argv[2])
else:
    die(*sys.argv[2:])
