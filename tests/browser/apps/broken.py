"""A Flask application with a mistake: its page is the debugger's."""
from flask import Flask

app = Flask(__name__)


@app.get("/")
def mistake():
    six = 6
    return six / 0
