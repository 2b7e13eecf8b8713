"""A service on 127.0.0.1:3000: a line of text, and under /ticks a line every tenth of a second without an end."""

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        if self.path != "/ticks":
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"here\n")
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"5\r\ntick\n\r\n")
                time.sleep(0.1)
        except OSError:
            self.close_connection = True


ThreadingHTTPServer(("127.0.0.1", 3000), Service).serve_forever()
