"""Clients in Python. `ask.py stream URL CA TOKEN [JSON]` prints how many events came and the slowest in milliseconds; `ask.py s3 URL CA
TOKEN` works with a bucket and prints a presigned URL; `ask.py rpc HOST:PORT CA TOKEN` calls over gRPC."""
import json
import ssl
import sys
import time
import urllib.request

_, what, place, ca, token, *rest = sys.argv


def stream():
    body = rest[0].encode() if rest else None
    request = urllib.request.Request(place, body, {"Authorization": f"Bearer {token}"})
    delays = []
    with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=ca), timeout=20) as answer:
        while line := answer.readline():
            if line.strip():
                delays.append(time.time() - json.loads(line.decode().removeprefix("data: "))["at"])
    print(len(delays), int(max(delays) * 1000))


def s3():
    import boto3

    key = json.loads(rest[0])
    client = boto3.client("s3", endpoint_url=place, verify=ca, region_name="us-east-1", aws_access_key_id=key["AccessKeyId"],
                          aws_secret_access_key=key["SecretAccessKey"], config=boto3.session.Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}))
    # After signing: what the gate wants is no part of what the service signs.
    client.meta.events.register("before-send.s3", lambda request, **_: request.headers.__setitem__("Loopgate-Token", token))
    client.create_bucket(Bucket="bucket")
    name = "a folder/ä+b=c&d%2F.txt"
    client.put_object(Bucket="bucket", Key=name, Body=b"what was put")
    assert client.get_object(Bucket="bucket", Key=name)["Body"].read() == b"what was put"
    assert [one["Key"] for one in client.list_objects_v2(Bucket="bucket")["Contents"]] == [name]
    print(client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": name}, ExpiresIn=60))


def rpc():
    import grpc

    trust = grpc.ssl_channel_credentials(open(ca, "rb").read())
    metadata = (("authorization", f"Bearer {token}"),)
    with grpc.secure_channel(place, trust) as channel:
        answer, call = channel.unary_unary("/check.Echo/Unary").with_call(b"hello", timeout=20, metadata=metadata)
        said = channel.stream_stream("/check.Echo/Both")(iter([b"a", b"b", b"c"]), timeout=20, metadata=metadata)
        print(answer.decode(), dict(call.trailing_metadata())["peer"], b"".join(said).decode())
        try:
            channel.unary_unary("/check.Echo/Unary")(b"hello", timeout=20)
        except grpc.RpcError as refused:
            print(refused.code().name)


{"stream": stream, "s3": s3, "rpc": rpc}[what]()
