#!/usr/bin/env bash
# A service that is started anew twenty times in the middle of its work, as servers with workers are on a reload: the new one gets the
# listening socket; the old one takes no new connections, ends what it has begun and closes those that are kept, some of them with a
# request in them that it never reads. Whoever asks what can be asked again does not notice, over HTTP/1.1 and HTTP/2.
set -u
source "$(dirname "${BASH_SOURCE[0]}")/../support/checks.sh"

if [ -z "${LIMITED:-}" ]; then
    packages curl:curl python3:python3 h2load:nghttp2-client
    binary
    export GATE
fi
limited 120 "$0" "$@"
cd "$WORK" || exit 1

cat >service.py <<'PY'
import os, select, signal, socket, sys, threading, time

def readable(*files):
    poll = select.poll()
    for file in files: poll.register(file, select.POLLIN)
    return [fd for fd, _ in poll.poll()]

def worker(listening):
    left, told = os.pipe()
    lock, unread = threading.Lock(), []
    def serve(connection):
        answered = 0
        with connection:
            # Who connects has something to ask: the first request is always answered.
            while not answered or left not in readable(connection, left):
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    more = connection.recv(4096)
                    if not more: return
                    head += more
                time.sleep(0.02)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                answered += 1
            # It takes its time to close, in which the next request comes.
            time.sleep(0.02)
            connection.setblocking(False)
            try:
                if connection.recv(1, socket.MSG_PEEK): unread.append(1)
            except BlockingIOError: pass
    signal.signal(signal.SIGTERM, lambda *_: os.close(told))
    print("begun", flush=True)
    threads = []
    while left not in readable(listening, left):
        # The other worker may be faster.
        try: connection, _ = listening.accept()
        except BlockingIOError: continue
        threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
        threads[-1].start()
    for thread in threads: thread.join(10)
    print("ended", "late" if any(t.is_alive() for t in threads) else "well", "unread", len(unread), flush=True)
    os._exit(0)

listening = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512)
listening.setblocking(False)
def begun():
    pid = os.fork()
    if pid == 0: worker(listening)
    return pid
running = [begun()]
try:
    while not os.path.exists("go"): time.sleep(0.05)
    for _ in range(20):
        running.append(begun())
        time.sleep(0.25)
        os.kill(running[0], signal.SIGTERM)
        os.waitpid(running.pop(0), 0)
    print("done", flush=True)
    while not os.path.exists("over"): time.sleep(0.05)
finally:
    for pid in running: os.kill(pid, signal.SIGKILL)
PY
service=$(free_port)
start service timeout 300 python3 service.py "$service"
until_true 10 curl -s -o /dev/null "http://127.0.0.1:$service/"
cat >gate.toml <<TOML
[[listener]]
address = "127.0.0.1:0"
networks = { allow = ["loopback"] }
[log]
access = "access.log"
[[route]]
upstream = "127.0.0.1:$service"
access = "anyone"
TOML
serving gate gate.toml
gate=$PID
# An answer takes the service 20 ms, so these take 12 s at least.
start h1 h2load --h1 -t 1 -c 8 -n 4800 "https://127.0.0.1:$PORT/"
one=$PID
start h2 h2load -t 1 -c 2 -m 8 -n 9600 "https://127.0.0.1:$PORT/"
two=$PID
under_load() { [ "$(grep -c ' 200 ' access.log)" -ge 100 ]; }
until_true 20 under_load
touch go
until_true 60 grep -q done service.out
same "it was started anew twenty times" "21 20" "$(grep -c begun service.out) $(grep -c 'ended well' service.out)"
same "while it was asked" 2 "$(ps -o pid= -p "$one,$two" | wc -l)"
unread=$(awk '/unread/ {n += $4} END {print n + 0}' service.out)
same "and it left requests unread ($unread)" 1 $((unread >= 20))
wait "$one" "$two"
touch over
for name in "h1 4800" "h2 9600"; do
    read -r name all <<<"$name"
    has "$name: every request was answered" "^requests: .* $all succeeded, 0 failed, 0 errored, 0 timeout" "$(grep '^requests:' "$name.out")"
    has "$name: with what the service says" "^status codes: $all 2xx, 0 3xx, 0 4xx, 0 5xx" "$(grep '^status codes' "$name.out")"
done
kill -TERM "$gate"
wait "$gate"
same "the log has them all, and no other answer" "14400 0" "$(grep -c ' 200 ' access.log) $(grep -cv ' 200 ' access.log)"
exit 0
