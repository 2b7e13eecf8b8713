"""Asks for as much as HTTP/2 lets one ask for and takes nothing: `greedy.py PORT CA HOST PATH CONNECTIONS STREAMS`."""
import socket
import ssl
import struct
import sys
import time

port, ca, host, path, connections, streams = int(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5]), int(sys.argv[6])


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def field(name, value):
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


fields = [(":method", "GET"), (":scheme", "https"), (":authority", f"{host}:{port}"), (":path", path)]
block = b"".join(field(name, value) for name, value in fields)
settings = struct.pack(">HI", 4, 2**31 - 1)
text = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings)
text += b"".join(frame(1, 5, 2 * n + 1, block) for n in range(streams))
trust = ssl.create_default_context(cafile=ca)
trust.set_alpn_protocols(["h2"])
held = []
for _ in range(connections):
    plain = socket.create_connection(("127.0.0.1", port))
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    held.append(trust.wrap_socket(plain, server_hostname=host))
    held[-1].sendall(text)
time.sleep(3)
print("asked", flush=True)
time.sleep(60)
