"""A service for the checks with real programs: HTTP/1.1, one thread a connection. Usage: service.py PORT [ADDRESS]; with an address
the port is shared, so that another one can open it to everybody."""
import hashlib
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120

    def pieces(self):
        """The body as it comes, whatever frames it."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, 1 << 20))
            if not piece:
                raise ConnectionError("the body was cut")
            left -= len(piece)
            yield piece

    def say(self, text, status=200, **fields):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        if self.path == "/early":
            # Says no, and reads nothing.
            self.close_connection = True
            return self.say("too much", 413, Connection="close")
        total, digest = 0, hashlib.sha256()
        for piece in self.pieces():
            total += len(piece)
            digest.update(piece)
        framing = "chunked" if "Transfer-Encoding" in self.headers else "length"
        self.say(f"{framing} {total} {digest.hexdigest()}\n")

    do_POST = do_PUT

    def do_GET(self):
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(10):
                event = f"data: {time.time()}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                time.sleep(0.1)
            self.wfile.write(b"0\r\n\r\n")
        elif self.path.endswith("/stream"):
            # For as long as anybody listens: two minutes at most.
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for n in range(1200):
                self.wfile.write(b"data: %d\n\n" % n)
                time.sleep(0.1)
        elif self.path.endswith("/who"):
            self.say(f"{self.headers.get('X-Loopgate-User')}\n")
        elif self.path.startswith("/cut/"):
            self.close_connection = True
            self.send_response(200)
            is_chunked = self.path == "/cut/chunked"
            self.send_header(*(("Transfer-Encoding", "chunked") if is_chunked else ("Content-Length", "1000")))
            self.end_headers()
            self.wfile.write(b"a\r\nhalf of it\r\n" if is_chunked else b"half of it")
        elif self.path == "/slow":
            print("slow begins", file=sys.stderr, flush=True)
            time.sleep(2)
            self.say("slow but whole\n")
        elif self.path == "/hold":
            print("held", file=sys.stderr, flush=True)
            time.sleep(10)
            self.say("let go\n", Connection="close")
        elif self.path == "/once":
            self.close_connection = True
            self.say("once\n")
        else:
            self.say("hello\n")

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_port = len(sys.argv) > 2

    def get_request(self):
        connection, peer = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, peer

    def handle_error(self, request, peer):
        pass


address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
Server((address, int(sys.argv[1])), Service).serve_forever()
