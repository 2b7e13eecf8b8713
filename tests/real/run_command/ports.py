"""Opens ports on loopback in the order given: `pages:PORT` answers HTTP, `raw:PORT` takes connections and hangs up."""
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer


class Pages(BaseHTTPRequestHandler):
    def do_GET(self):
        text = f"pages {self.server.server_port}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def raw(port):
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            server.accept()[0].close()


for kind, port in (word.split(":") for word in sys.argv[1:]):
    serve = raw if kind == "raw" else lambda p: HTTPServer(("127.0.0.1", p), Pages).serve_forever()
    threading.Thread(target=serve, args=(int(port),)).start()
