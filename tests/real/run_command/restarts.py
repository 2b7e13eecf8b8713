"""A watcher that starts a server, and starts it anew when somebody asks for /restart: first on one port, then on another."""
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        text = f"{sys.argv[2]} on {self.server.server_port}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        if self.path == "/restart":
            self.server.is_over = True


def serve(port):
    server = HTTPServer(("127.0.0.1", port), Page)
    server.is_over = False
    while not server.is_over:
        server.handle_request()


if sys.argv[1] == "serve":
    serve(int(sys.argv[3]))
else:
    first, second = sys.argv[1:]
    for life, port in [("first", first), ("second", second), ("third", second)]:
        subprocess.run([sys.executable, "-u", __file__, "serve", life, port])
