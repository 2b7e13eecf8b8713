"""A service on port 3000 of 127.0.0.1 or the address that is named: a line of text, `here` or the one that is named, and under /ticks
a line every tenth of a second without an end."""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
LINE = (sys.argv[2] if len(sys.argv) > 2 else "here").encode() + b"\n"


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        if self.path != "/ticks":
            self.send_header("Content-Length", str(len(LINE)))
            self.end_headers()
            self.wfile.write(LINE)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"5\r\ntick\n\r\n")
                time.sleep(0.1)
        except OSError:
            self.close_connection = True


ThreadingHTTPServer((ADDRESS, 3000), Service).serve_forever()
