"""FastAPI: its page of documentation (with its own copies of scripts), a WebSocket, a redirect that it makes from the Host it was given."""
from fastapi import Request, WebSocket
from fastapi_offline import FastAPIOffline

app = FastAPIOffline()


@app.get("/items/")
def items(request: Request):
    return {"url": str(request.url), "client": request.client.host}


@app.post("/double")
def double(number: int):
    return {"twice": 2 * number}


@app.websocket("/ws")
async def words(socket: WebSocket):
    await socket.accept()
    async for word in socket.iter_text():
        await socket.send_text(word.upper())
