"""Many TLS connections at once: `many.py serve PORT` is the service; `many.py client PORT IDLE ACTIVE SECONDS PROCESSES` holds IDLE
connections open and asks over ACTIVE others all the while, then asks over every idle one. Prints one line of figures."""
import asyncio
import multiprocessing
import resource
import socket
import ssl
import sys
import time

ASK = b"GET / HTTP/1.1\r\nHost: app.lan\r\n\r\n"


async def serve(port):
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    class Service(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport, self.seen = transport, b""

        def data_received(self, data):
            self.seen += data
            while b"\r\n\r\n" in self.seen:
                self.seen = self.seen.partition(b"\r\n\r\n")[2]
                self.transport.write(body)

    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def opened(context, port, source):
    plain = socket.socket()
    plain.settimeout(60)
    plain.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect, per address
    plain.bind((source, 0))
    plain.connect(("127.0.0.1", port))
    return context.wrap_socket(plain, server_hostname="app.lan")


def answered(tls):
    got = b""
    while b"\r\n\r\nok" not in got:
        part = tls.recv(4096)
        if not part:
            return False
        got += part
    return got.startswith(b"HTTP/1.1 200 ")


def asks(tls):
    tls.sendall(ASK)
    return answered(tls)


def one(index, port, idle, active, seconds, begin, out):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    context = ssl._create_unverified_context()
    failed, requests, worst = [], 0, 0.0
    held = {"idle": [], "active": []}
    # Addresses of their own: ports are counted for each.
    for n in range(idle + active):
        try:
            tls = opened(context, port, f"127.0.{1 + index}.{1 + n % 8}")
            if asks(tls):
                held["idle" if n < idle else "active"].append(tls)
            else:
                failed.append("no answer at the first question")
        except OSError as error:
            failed.append(repr(error))
    begin.wait()
    end = time.monotonic() + seconds
    # All at once, then all their answers: as many are under way as there are.
    while time.monotonic() < end:
        start = time.monotonic()
        for step in (lambda tls: tls.sendall(ASK) or True, answered):
            for tls in list(held["active"]):
                try:
                    is_good = step(tls)
                except OSError as error:
                    failed.append(repr(error))
                    is_good = False
                if not is_good:
                    failed.append("cut")
                    held["active"].remove(tls)
        requests += len(held["active"])
        worst = max(worst, time.monotonic() - start)
    begin.wait()
    for tls in held["idle"]:
        try:
            if not asks(tls):
                failed.append("an idle one was cut")
        except OSError as error:
            failed.append(repr(error))
    out.put((len(held["idle"]), len(held["active"]), requests, worst, failed))
    begin.wait()


def one_more(port):
    tls = opened(ssl._create_unverified_context(), port, "127.0.99.1")
    tls.sendall(ASK)
    got = b""
    while b"\r\n\r\n" not in got:
        part = tls.recv(4096)
        if not part:
            return "closed"
        got += part
    lines = got.decode("latin-1").split("\r\n")
    retry = [line.lower() for line in lines if line.lower().startswith("retry-after:")]
    return " ".join([lines[0][:12], *retry])


def when_others_have_left(port):
    """The gate hears of them one by one."""
    end = time.monotonic() + 30
    while True:
        told = one_more(port).partition(" retry")[0]
        if told == "HTTP/1.1 200" or time.monotonic() > end:
            return told
        time.sleep(0.1)


def client(port, idle, active, seconds, processes):
    begin, out = multiprocessing.Barrier(processes + 1), multiprocessing.Queue()
    shares = [(idle // processes, active // processes)] * processes
    workers = [multiprocessing.Process(target=one, args=(n, port, *share, seconds, begin, out)) for n, share in enumerate(shares)]
    start = time.monotonic()
    for worker in workers:
        worker.start()
    begin.wait()
    print(f"opened after {time.monotonic() - start:.0f} s", flush=True)
    begin.wait()
    found = [out.get() for _ in workers]
    beyond = one_more(port)
    begin.wait()
    for worker in workers:
        worker.join()
    print(f"one more: {beyond}, when others have left: {when_others_have_left(port)}", flush=True)
    failed = [why for part in found for why in part[4]]
    total = [sum(part[n] for part in found) for n in range(3)]
    print(f"{total[0]} idle {total[1]} active {total[2]} requests {max(p[3] for p in found):.1f} s for the slowest round {len(failed)} failed {failed[:3]}")


if sys.argv[1] == "serve":
    asyncio.run(serve(int(sys.argv[2])))
else:
    client(*(int(a) for a in sys.argv[2:]))
