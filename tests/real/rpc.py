"""gRPC without generated code: `rpc.py serve PORT`; `rpc.py ask PORT CA CASE` calls through the gate and prints what came of it."""
import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "check.Echo"
cancelled = threading.Event()


def unary(request, context):
    if request == b"fail":
        context.set_trailing_metadata((("why", "because"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
    if request == b"was it cancelled?":
        return b"yes" if cancelled.wait(5) else b"no"
    context.set_trailing_metadata((("peer", "service"),))
    return request


def countdown(request, context):
    for n in range(int(request)):
        yield str(n).encode()


def gather(requests, context):
    return str(sum(len(r) for r in requests)).encode()


def both(requests, context):
    context.add_callback(lambda: cancelled.set() if not context.code() else None)
    for request in requests:
        yield request.upper()


def serve(port):
    server = grpc.server(futures.ThreadPoolExecutor(16))
    kinds = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Countdown": grpc.unary_stream_rpc_method_handler(countdown),
        "Gather": grpc.stream_unary_rpc_method_handler(gather),
        "Both": grpc.stream_stream_rpc_method_handler(both),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, kinds),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def ask(port, ca, case):
    trust = grpc.ssl_channel_credentials(open(ca, "rb").read())
    options = [("grpc.ssl_target_name_override", "rpc.lan"), ("grpc.default_authority", f"rpc.lan:{port}")]
    with grpc.secure_channel(f"127.0.0.1:{port}", trust, options) as channel:
        name = f"/{SERVICE}/"
        if case == "unary":
            answer, call = channel.unary_unary(name + "Unary").with_call(b"hello", timeout=20)
            print(answer.decode(), dict(call.trailing_metadata())["peer"])
        elif case == "many":
            calls = [channel.unary_unary(name + "Unary").future(str(n).encode(), timeout=30) for n in range(500)]
            print(sum(call.result() == str(n).encode() for n, call in enumerate(calls)))
        elif case == "large":
            data = b"x" * (3 << 20)
            print(len(channel.unary_unary(name + "Unary")(data, timeout=30)))
        elif case == "fail":
            try:
                channel.unary_unary(name + "Unary")(b"fail", timeout=20)
            except grpc.RpcError as error:
                print(error.code().name, error.details(), dict(error.trailing_metadata())["why"])
        elif case == "down":
            print(sum(1 for _ in channel.unary_stream(name + "Countdown")(b"2000", timeout=30)))
        elif case == "up":
            print(channel.stream_unary(name + "Gather")((b"x" * 1000 for _ in range(2000)), timeout=30).decode())
        elif case == "both":
            # Each answer is read before the next question is asked: nothing is held back anywhere.
            turn, words = threading.Semaphore(1), []

            def questions():
                for n in range(50):
                    turn.acquire()
                    yield f"word {n}".encode()

            for answer in channel.stream_stream(name + "Both")(questions(), timeout=30):
                words.append(answer.decode())
                turn.release()
            print(len(words), words[-1])
        elif case == "cancel":
            hold = threading.Event()

            def endless():
                yield b"one"
                hold.wait(20)

            call = channel.stream_stream(name + "Both")(endless(), timeout=30)
            first = next(call).decode()
            call.cancel()
            asked = channel.unary_unary(name + "Unary")(b"was it cancelled?", timeout=20).decode()
            hold.set()
            print(first, asked)
        elif case == "deadline":
            start = time.time()
            try:
                list(channel.stream_stream(name + "Both")(iter(lambda: time.sleep(3) or b"x", b""), timeout=1))
            except grpc.RpcError as error:
                print(error.code().name, time.time() - start < 2.5)


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    ask(int(sys.argv[2]), sys.argv[3], sys.argv[4])
