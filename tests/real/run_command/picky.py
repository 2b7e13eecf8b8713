"""Refuses to be called anything but localhost, in the words of webpack-dev-server."""
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Picky(BaseHTTPRequestHandler):
    def do_GET(self):
        is_known = self.headers["Host"].startswith(("localhost:", "127.0.0.1:"))
        text = b"hello" if is_known else b"Invalid Host header"
        self.send_response(200 if is_known else 403)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


HTTPServer(("127.0.0.1", int(sys.argv[1])), Picky).serve_forever()
