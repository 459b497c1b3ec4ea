"""What recognition costs: microseconds a warm call, seconds of a cold start with and without the cache."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from flowwarden.recognition.recogniser import Recogniser
from flowwarden.types import Request

_FORM = (b"content-type", b"application/x-www-form-urlencoded; charset=utf-8")
_JSON = (b"content-type", b"application/x-amz-json-1.0")
_COMMON = (
    (b"user-agent", b"Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux lang/python#3.13"),
    (b"x-amz-date", b"20261120T000000Z"),
    (b"amz-sdk-invocation-id", b"00000000-0000-4000-8000-000000000000"),
    (b"amz-sdk-request", b"attempt=1"),
    (b"accept-encoding", b"identity"),
)


def _request(method: str, host: str, target: str, *headers: tuple[bytes, bytes], body: bytes = b"") -> Request:
    service = "s3" if ".s3." in host else host.partition(".")[0]
    scope = f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261120/eu-west-1/{service}/aws4_request, SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
    lines = (*headers, *_COMMON, (b"authorization", scope.encode()), (b"content-length", str(len(body)).encode()))
    return Request(method, "https", host, 443, target, lines, body)


CALLS = {
    "sts:GetCallerIdentity": _request("POST", "sts.eu-west-1.amazonaws.com", "/", _FORM, body=b"Action=GetCallerIdentity&Version=2011-06-15"),
    "ec2:TerminateInstances": _request(
        "POST", "ec2.eu-west-1.amazonaws.com", "/", _FORM,
        body=b"Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-0123456789abcdef0&InstanceId.2=i-0123456789abcdef1",
    ),
    "dynamodb:GetItem": _request(
        "POST", "dynamodb.eu-west-1.amazonaws.com", "/", _JSON, (b"x-amz-target", b"DynamoDB_20120810.GetItem"),
        body=b'{"TableName": "orders", "Key": {"id": {"S": "1"}}}',
    ),
    "s3:GetObject": _request("GET", "my-bucket.s3.eu-west-1.amazonaws.com", "/some/key%20with%20spaces.txt"),
    "s3:ListObjectsV2": _request("GET", "my-bucket.s3.eu-west-1.amazonaws.com", "/?list-type=2&prefix=some%2F&encoding-type=url"),
    "lambda:GetFunction": _request("GET", "lambda.eu-west-1.amazonaws.com", "/2015-03-31/functions/my-function"),
}  # fmt: skip


def _seconds(folder: Path) -> float:
    started = time.perf_counter()
    Recogniser(folder)
    return time.perf_counter() - started


def _median(recogniser: Recogniser, request: Request, whole: bool) -> float:
    """Microseconds, on a request whose header fields nobody has parsed yet."""
    times = []
    for _ in range(2000):
        fresh = Request(
            request.method, request.scheme, request.host, request.port, request.target, request.headers, request.body
        )
        started = time.perf_counter()
        call = recogniser.recognise(fresh, "123456789012")
        if whole:
            _ = call.params, call.actions, call.resources
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def measure() -> dict[str, float]:
    """`… µs`: median of one warm call (operation; and with parameters, actions and resources). `… s`: a start."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "tables"
        found["start without a cache, s"] = _seconds(folder)
        found["start with a cache, s"] = min(_seconds(folder) for _ in range(3))
        recogniser = Recogniser(folder)
        for title, request in CALLS.items():
            call = recogniser.recognise(request)
            assert str(call.operation) == title, title
            found[f"{title}, operation, µs"] = _median(recogniser, request, whole=False)
            found[f"{title}, everything, µs"] = _median(recogniser, request, whole=True)
    return found


if __name__ == "__main__":
    for title, value in measure().items():
        print(f"{value:10.3f}  {title}")
