"""The other side of a hand-over, of another version. `versions.py gate SOCKET STATUS PORT` is a running gate that listens on PORT,
says STATUS (a file) of itself, and hands over in the way that the file `way` names at that moment; `versions.py heir SOCKET WAY` asks a
real gate for its place. Both print what they hear."""
import array
import json
import os
import socket
import sys


def say(*what):
    print(*what, flush=True)


def lines(stream):
    """Line by line, descriptors left aside."""
    held = b""
    while True:
        while b"\n" in held:
            line, held = held.split(b"\n", 1)
            yield line.decode().strip()
        try:
            data, *_ = stream.recvmsg(1 << 16, socket.CMSG_SPACE(64 * 4))
        except OSError:
            data = b""
        if not data:
            return
        held += data


def gate(path, about, port):
    listener = socket.create_server(("127.0.0.1", port))
    with open(about) as file:
        about = json.load(file)
    about["pid"] = os.getpid()
    control = socket.socket(socket.AF_UNIX)
    control.bind(path)
    os.chmod(path, 0o600)
    control.listen(16)
    say("listens")
    while True:
        stream, _ = control.accept()
        stream.settimeout(60)
        heard = lines(stream)
        question = next(heard, None)
        if question is None:
            continue
        if json.loads(question)["do"] == "take-over":
            with open("way") as file:
                hand_over(stream, heard, file.read().strip(), listener)
            say("done")
        else:
            stream.sendall(json.dumps({"v": 1, "version": "0.0.1", "done": about}).encode() + b"\n")
        stream.close()


def hand_over(stream, heard, way, listener):
    def tell(told):
        try:
            stream.sendall((told if isinstance(told, str) else json.dumps(told)).encode() + b"\n")
        except OSError as error:
            say("unheard", type(error).__name__)

    def answer(done, *sockets):
        for one in sockets:
            stream.sendmsg([b" "], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [one.fileno()]))])
        tell({"v": 1, "version": "0.0.1", "done": done})

    name = "%s:%d" % listener.getsockname()
    lockouts = {"taken": 1796000000, "secret": [0] * 32, "clients": [], "users": [], "pairs": []}
    offer = {"pid": os.getpid(), "listeners": [{"address": name, "name": name, "sockets": 1}], "admin": [], "lockouts": lockouts}
    last = {"lockouts": lockouts, "has_lock": False}
    visits = {"version": 1, "says_over": True, "sessions": [], "links": []}
    if way == "protocol":
        return tell({"v": 2, "version": "9.9.9", "failed": {"code": 1, "message": "the running gate (loopgate 9.9.9) speaks another protocol"}})
    if way == "before":
        return tell({"v": 1, "version": "0.0.1", "failed": {"code": 2, "message": "the running gate (loopgate 0.0.1) does not know what was asked"}})
    if way == "noise":
        return tell("<html>")
    if way == "lacks":
        del offer["lockouts"]
        answer(offer, listener)
    elif way == "limits":
        lockouts["more"] = 1
        answer(offer, listener)
    elif way == "fewer":
        offer["listeners"][0]["sockets"] = 2
        answer(offer, listener)
    elif way == "more":
        more = {"of": "tomorrow"}
        offer["more"] = offer["listeners"][0]["more"] = more
        answer(offer, listener, socket.create_server(("127.0.0.1", 0)))
    else:
        answer(offer, listener)
    for said in heard:
        say("heard", said)
        if said == "ready":
            if way == "last":
                tell({"lockouts": None, "visits": visits})
            elif way == "more":
                tell({**last, "more": more, "visits": {"version": 2, "sessions": {"of": "tomorrow"}}})
            elif way == "broken":
                tell({**last, "visits": visits})
            else:
                tell(last)
        if said == "taken":
            # The first version said nothing more.
            if way == "more":
                tell(more)
                tell({"session": {"ended": 7}})
                tell('"over"')
            listener.close()
            return
    say("left")


def heir(path, way):
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(path)
    stream.settimeout(60)
    heard = lines(stream)

    def ask(question):
        stream.sendall(json.dumps(question).encode() + b"\n")
        answer = json.loads(next(heard, "{}"))
        say("offered" if "done" in answer else answer.get("failed", {}).get("message", "closed"))
        return "done" in answer

    if way == "protocol":
        return ask({"v": 2, "do": "take-over"})
    if way == "verb":
        return ask({"v": 1, "do": "take-everything"})
    if not ask({"v": 1, "do": "take-over", "more": "of tomorrow"}):
        return
    if way == "steady":
        stream.sendall(b"steady\n")
        return say("then", next(heard, "closed"))
    stream.sendall(b"ready\n")
    say("given", *sorted(json.loads(next(heard, "{}"))))
    if way == "took":
        stream.sendall(b"took\n")
        return say("then", next(heard, "closed"))
    stream.sendall(b'taken\n{"of":"tomorrow"}\n{"session":{"began":{"key":7}}}\n')
    say("then", *heard)


if sys.argv[1] == "gate":
    gate(sys.argv[2], sys.argv[3], int(sys.argv[4]))
else:
    heir(sys.argv[2], sys.argv[3])
