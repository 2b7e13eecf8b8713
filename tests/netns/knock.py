"""Knocks at HOST PORT from SOURCE: sends a TLS hello or nothing, and says how the socket ended and how many bytes came."""

import socket
import ssl
import sys

host, port, source, what = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
knocking = socket.socket(family, socket.SOCK_STREAM)
knocking.bind((source, 0))
knocking.settimeout(20)
knocking.connect((host, port))
knocking.settimeout(4)
got, end = 0, "closed"
try:
    if what == "hello":
        hello = ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        talk = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="gate.home.arpa")
        try:
            talk.do_handshake()
        except ssl.SSLWantReadError:
            pass
        knocking.sendall(hello.read())
    while data := knocking.recv(4096):
        got += len(data)
except TimeoutError:
    end = "open"
except ConnectionError:
    pass
print(f"{end} {'with' if got else 'without'} bytes")
