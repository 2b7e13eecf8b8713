"""Refuses to be called anything but localhost, in the words of webpack-dev-server. `picky.py PORT [ADDRESS]`."""
import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Picky(BaseHTTPRequestHandler):
    def do_GET(self):
        is_known = self.headers["Host"].startswith(("localhost:", "127.0.0.1:", "[::1]:"))
        text = b"hello" if is_known else b"Invalid Host header"
        self.send_response(200 if is_known else 403)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
HTTPServer.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
HTTPServer((address, int(sys.argv[1])), Picky).serve_forever()
