"""A service manager for tests: hands sockets over, and writes down what it is told.
`manager.py LOG WATCHDOG ADDRESS… -- COMMAND…`; ADDRESS is HOST:PORT, with `udp!`, `deaf!` or `both!` before it what must be refused.
Told `again` on its standard input, it ends the command and starts it again with the same sockets."""
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading

FIRST = 3


def opened(text):
    kind, _, rest = text.rpartition("!")
    host, port = rest.rsplit(":", 1)
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if kind == "both" else 1)
    made.bind((host, int(port)))
    if kind not in ("udp", "deaf"):
        made.listen(256)
    return made


def started(command, sockets, notify, watchdog):
    environment = dict(os.environ, NOTIFY_SOCKET=notify, LISTEN_FDS=str(len(sockets)))
    if int(watchdog):
        environment["WATCHDOG_USEC"] = watchdog
    # The id is known to the child alone: it puts it into its own environment.
    command = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command]
    return subprocess.Popen(command, env=environment, pass_fds=[s.fileno() for s in sockets])


def main():
    log, watchdog, *rest = sys.argv[1:]
    at = rest.index("--")
    # Before anything else is opened: they have the numbers that the child finds them by.
    sockets = [opened(text) for text in rest[:at]]
    assert [s.fileno() for s in sockets] == list(range(FIRST, FIRST + len(sockets)))
    with tempfile.TemporaryDirectory() as place:
        notify = os.path.join(place, "notify")
        told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        told.bind(notify)
        current = [started(rest[at + 1:], sockets, notify, watchdog)]

        def write():
            with open(log, "a", buffering=1) as file:
                while True:
                    text = told.recv(4096).decode()
                    file.write(f"{text!r}\n")

        threading.Thread(target=write, daemon=True).start()
        signal.signal(signal.SIGTERM, lambda *_: current[0].terminate())
        while True:
            line = sys.stdin.readline()
            if line.strip() == "again":
                current[0].terminate()
                current[0].wait()
                current[0] = started(rest[at + 1:], sockets, notify, watchdog)
            elif not line:
                sys.exit(current[0].wait())


main()
