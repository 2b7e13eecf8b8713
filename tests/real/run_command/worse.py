"""On loopback first; a second after somebody was there, on every address."""
import sys
from http.server import HTTPServer, SimpleHTTPRequestHandler

port = int(sys.argv[1])
with HTTPServer(("127.0.0.1", port), SimpleHTTPRequestHandler) as server:
    server.handle_request()
with HTTPServer(("0.0.0.0", port), SimpleHTTPRequestHandler) as server:
    server.serve_forever()
