"""A model server as Ollama is one, without a model: answers stream as JSON lines, foreign names are refused. Usage: llm.py PORT"""
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def stream(self, kind, pieces):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            time.sleep(0.1)
        self.wfile.write(b"0\r\n\r\n")

    def refused(self):
        names = ("localhost", "127.0.0.1")
        origin = self.headers.get("Origin", "http://localhost")
        if self.headers["Host"].split(":")[0] in names and origin.split("/")[2].split(":")[0] in names:
            return False
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        if self.refused():
            return
        words = [f"{self.path} ", *asked.get("prompt", "nothing").split(), ""]
        lines = [{"at": time.time, "response": word, "done": not word} for word in words]
        self.stream("application/x-ndjson", (json.dumps({**line, "at": line["at"]()}).encode() + b"\n" for line in lines))

    do_DELETE = do_POST

    def do_GET(self):
        if self.refused():
            return
        if self.path == "/events":
            return self.stream("text/event-stream", (f"data: {json.dumps({'at': time.time()})}\n\n".encode() for _ in range(10)))
        self.send_response(200)
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Server).serve_forever()
