"""A Flask application for the checks with applications: who comes, files with ranges, uploads, long fields, a login of its own."""
import hashlib

from flask import Flask, jsonify, redirect, request, send_file, session, url_for
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.serving import WSGIRequestHandler

WSGIRequestHandler.protocol_version = "HTTP/1.1"
app = Flask(__name__)
app.secret_key = "of this check alone"
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)


@app.get("/")
def whoami():
    return jsonify(url=request.url, raw=request.environ["RAW_URI"], fields={k.lower(): v for k, v in request.headers})


@app.route("/login", methods=["POST"])
def login():
    session["name"] = request.form["name"]
    return redirect(url_for("hello", _external=True))


@app.get("/hello")
def hello():
    return f"hello {session.get('name', 'stranger')}\n"


@app.get("/file")
def file():
    return send_file("/proc/self/cwd/file.bin", conditional=True, etag="one")


@app.put("/file")
def upload():
    total, digest = 0, hashlib.sha256()
    while piece := request.stream.read(1 << 16):
        total += len(piece)
        digest.update(piece)
    return f"{total} {digest.hexdigest()}\n"


@app.get("/long")
def long():
    return f"{len(request.headers.get('X-Long', ''))}\n", 200, {"X-Long": "b" * 32768, "X-Raw": "gr\xfc\xc3\xbc ~\t|"}
