"""Made answers for judging masks: every shape of token in every carrier and encoding, and answers that hold no secret.

Tokens are made from the forms that their issuers publish (the templates beside each shape), with a seed, never from a
pattern. What an answer hides is known, so that recall is counted on the secret itself, not on what the masker reports.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import random
import struct
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote
from xml.sax.saxutils import escape

import cbor2

from flowwarden.masking import examples
from flowwarden.masking.model import Mask
from flowwarden.types import Call, Headers, Operation

WORDS = [
    "lorem",
    "ipsum",
    "dolor",
    "sit",
    "amet",
    "consectetur",
    "adipiscing",
    "elit",
    "sed",
    "do",
    "eiusmod",
    "tempor",
    "incididunt",
    "ut",
    "labore",
    "et",
    "dolore",
    "magna",
    "aliqua",
    "enim",
    "minim",
    "veniam",
    "quis",
    "nostrud",
    "exercitation",
    "ullamco",
    "laboris",
    "nisi",
    "aliquip",
    "ex",
    "ea",
    "commodo",
    "consequat",
    "the",
    "token",
    "key",
    "password",
    "of",
    "a",
    "user",
    "was",
    "changed",
    "secret",
    "service",
    "access",
    "denied",
    "by",
    "policy",
]


@dataclass(frozen=True)
class Answer:
    """An answer, and the secrets in it with the mask that should hide them (none: it is clean)."""

    call: Call
    headers: Headers
    body: bytes
    mask: str = ""
    carrier: str = ""
    secrets: tuple[str, ...] = ()


def _call(operation: str, protocol: str) -> Call:
    service, _, name = operation.partition(":")
    return Call(aws=True, operation=Operation(service, name), protocol=protocol)


def _headers(content_type: str, *more: tuple[bytes, bytes]) -> Headers:
    return ((b"content-type", content_type.encode()), *more)


def words(rng: random.Random, count: int) -> str:
    """Words without meaning."""
    return " ".join(rng.choices(WORDS, k=count))


def _frame(payload: bytes) -> bytes:
    name, value = b":content-type", b"application/json"
    heads = bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value
    prelude = struct.pack(">II", 16 + len(heads) + len(payload), len(heads))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + heads + payload
    return message + struct.pack(">I", binascii.crc32(message))


Carrier = Callable[[str, random.Random], tuple[Call, Headers, bytes]]


def _json(text: str, rng: random.Random) -> tuple[Call, Headers, bytes]:
    body = {"events": [{"message": words(rng, 9), "timestamp": 1}, {"message": text, "id": rng.getrandbits(60)}]}
    return _call("logs:GetLogEvents", "json"), _headers("application/x-amz-json-1.1"), json.dumps(body).encode()


def _json_in_json(text: str, rng: random.Random) -> tuple[Call, Headers, bytes]:
    inner = json.dumps({"statusCode": 200, "body": json.dumps({"note": text, "n": [1, {"w": words(rng, 3)}]})})
    return _call("sfn:DescribeExecution", "json"), _headers("application/json"), json.dumps({"output": inner}).encode()


def _xml(text: str, rng: random.Random) -> tuple[Call, Headers, bytes]:
    body = f"<R xmlns='urn:x'><member><A>{words(rng, 5)}</A><Description>{escape(text)}</Description></member></R>"
    return _call("iam:GetRole", "query"), _headers("text/xml"), body.encode()


def _cbor(text: str, rng: random.Random) -> tuple[Call, Headers, bytes]:
    body = cbor2.dumps({"Items": [{"Text": text, "N": rng.getrandbits(40)}], "Words": words(rng, 6)})
    return _call("cloudwatch:GetDashboard", "smithy-rpc-v2-cbor"), _headers("application/cbor"), body


def _text(text: str, rng: random.Random) -> tuple[Call, Headers, bytes]:
    return Call(aws=False), _headers("text/plain"), f"{words(rng, 30)}\n{text}\n{words(rng, 30)}\n".encode()


def _object(text: str, rng: random.Random) -> tuple[Call, Headers, bytes]:
    body = f"# {words(rng, 8)}\n{text}\n{words(rng, 40)}\n".encode()
    return _call("s3:GetObject", "rest-xml"), _headers("binary/octet-stream"), body


def _events(text: str, rng: random.Random) -> tuple[Call, Headers, bytes]:
    said = f"{words(rng, 4)}\n{text}\n{words(rng, 6)}"
    size = rng.randint(3, 30)
    pieces = [said[i : i + size] for i in range(0, len(said), size)]
    body = b"".join(_frame(json.dumps({"delta": {"text": piece}}).encode()) for piece in pieces)
    return _call("bedrock-runtime:ConverseStream", "rest-json"), _headers("application/vnd.amazon.eventstream"), body


def _sse(text: str, rng: random.Random) -> tuple[Call, Headers, bytes]:
    said = f"{words(rng, 4)}\n{text}\n{words(rng, 6)}"
    size = rng.randint(3, 30)
    pieces = [said[i : i + size] for i in range(0, len(said), size)]
    body = "".join(f"data: {json.dumps({'choices': [{'delta': {'content': piece}}]})}\n\n" for piece in pieces)
    return Call(aws=False), _headers("text/event-stream"), body.encode()


def _header(text: str, rng: random.Random) -> tuple[Call, Headers, bytes]:
    value = text.replace("\n", " ").encode("latin-1", "replace")
    headers = _headers("application/json", (b"x-debug", value))
    return _call("lambda:Invoke", "rest-json"), headers, json.dumps({"ok": words(rng, 3)}).encode()


CARRIERS: dict[str, Carrier] = {
    "json": _json, "json in json": _json_in_json, "xml": _xml, "cbor": _cbor, "text": _text, "object": _object,
    "events": _events, "sse": _sse, "header": _header,
}  # fmt: skip
ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "base64": lambda text: base64.b64encode(f"note: {text}\n".encode()).decode(),
    "url": lambda text: "v=" + quote(text, safe=""),
    "gzip": lambda text: text,
}
_ACROSS = {"events", "sse"}


def secrets(masks: list[Mask], seed: int = 5) -> Iterator[Answer]:
    """One answer for each shape, carrier and encoding."""
    rng = random.Random(seed)
    for mask in masks:
        for carrier, make in CARRIERS.items():
            for encoding, encode in ENCODINGS.items():
                if encoding in {"base64", "url"} and carrier in _ACROSS | {"header"}:
                    continue  # running text is words; a header's value is not encoded
                template = rng.choice(mask.hits)
                if carrier == "header" and "\n" in template:
                    continue
                yield _answer(mask, template, f"{carrier}/{encoding}", make, encode, rng)


def _answer(
    mask: Mask, template: str, name: str, make: Carrier, encode: Callable[[str], str], rng: random.Random
) -> Answer:
    state = rng.getstate()
    text = examples.fill(template, rng)
    rng.setstate(state)
    places = [examples.fill(place, rng) for place in examples.places(template)]
    longest = max(map(len, places), default=0)
    call, headers, body = make(encode(text), rng)
    if name.endswith("/gzip"):
        body, headers = gzip.compress(body), (*headers, (b"content-encoding", b"gzip"))
    return Answer(call, headers, body, mask.id, name, tuple(p for p in places if len(p) == longest))


def _hex(rng: random.Random, size: int) -> str:
    return f"{rng.getrandbits(size * 4):0{size}x}"


def _b64(rng: random.Random, size: int) -> str:
    return base64.b64encode(rng.randbytes(size)).decode()


LOOKALIKES: dict[str, Callable[[random.Random], object]] = {
    "uuid": lambda rng: {"RequestId": str(uuid.UUID(int=rng.getrandbits(128), version=4)), "Trace": f"Root=1-{_hex(rng, 8)}-{_hex(rng, 24)}"},
    "hash": lambda rng: {"sha256": _hex(rng, 64), "md5": _hex(rng, 32), "ETag": f'"{_hex(rng, 32)}-12"', "crc": _b64(rng, 4)},
    "git": lambda rng: {"commitId": _hex(rng, 40), "parents": [_hex(rng, 40)], "treeId": _hex(rng, 40), "short": _hex(rng, 7)},
    "image": lambda rng: {"image": "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + rng.randbytes(300)).decode()},
    "ciphertext": lambda rng: {"CiphertextBlob": _b64(rng, 180), "KeyId": f"arn:aws:kms:eu-west-1:123456789012:key/{uuid.UUID(int=rng.getrandbits(128))}"},
    "arn": lambda rng: {"Arn": f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-password-{examples.random_text('alnum', 6, rng)}", "SecretName": "prod/db-password"},
    "role": lambda rng: {"RoleArn": "arn:aws:iam::123456789012:role/service-role/AWSServiceRoleForApplicationAutoScaling", "RoleId": "AROA" + examples.random_text("b32", 17, rng)},
    "sigv4": lambda rng: {"log": f"AWS4-HMAC-SHA256 Credential=AKIA{examples.random_text('b32', 16, rng)}/20260101/eu-west-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature={_hex(rng, 64)}"},
    "pages": lambda rng: {"NextToken": _b64(rng, 90), "nextToken": f"{_b64(rng, 60)}", "NextContinuationToken": "1" + _b64(rng, 40), "clientToken": str(uuid.UUID(int=rng.getrandbits(128)))},
    "lorem": lambda rng: {"Description": words(rng, 60)},
    "policy": lambda rng: {"Document": quote(json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue", "s3:*"], "Resource": "*"}]}))},
    "account": lambda rng: {"PasswordPolicy": {"MinimumPasswordLength": 14, "RequireSymbols": True}, "PasswordLastUsed": "2026-01-01T00:00:00Z", "TokenExpirationDate": "2027-01-01", "AccessKeyId": "AKIA" + examples.random_text("b32", 16, rng)},
    "public key": lambda rng: {"PublicKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + _b64(rng, 32), "Pem": "-----BEGIN CERTIFICATE-----\n" + "\n".join(_b64(rng, 48) for _ in range(12)) + "\n-----END CERTIFICATE-----\n"},
    "integrity": lambda rng: {"lock": f'"resolved": "https://npm.example.com/x/-/x-1.2.3.tgz", "integrity": "sha512-{_b64(rng, 64)}"'},
    "code": lambda rng: {"text": "password = os.environ['DB_PASSWORD']\ntoken: str = get_token(client_secret)\nif secret is None: raise ValueError(access_key)\napi_key=settings.API_KEY.value\nconst token = process.env.GITHUB_TOKEN;"},
    "digits": lambda rng: {"order": f"{rng.randrange(10**15, 10**16)}", "timestamp": 1767225600000 + rng.getrandbits(30), "ip": "10.1.2.3:8443", "phone": "0301234567"},
    "instances": lambda rng: {"Instances": [{"InstanceId": f"i-{_hex(rng, 17)}", "ImageId": f"ami-{_hex(rng, 17)}", "SubnetId": f"subnet-{_hex(rng, 17)}", "ClientToken": str(uuid.UUID(int=rng.getrandbits(128))), "PrivateDnsName": "ip-10-0-0-1.eu-west-1.compute.internal"} for _ in range(5)]},
    "receipt": lambda rng: {"Messages": [{"MessageId": str(uuid.UUID(int=rng.getrandbits(128))), "ReceiptHandle": _b64(rng, 150), "Body": words(rng, 20)}]},
    "table": lambda rng: {"Items": [{"id": {"S": _hex(rng, 24)}, "name": {"S": words(rng, 3)}, "n": {"N": str(rng.getrandbits(50))}} for _ in range(6)]},
    "urls": lambda rng: {"u": f"https://sqs.eu-west-1.amazonaws.com/123456789012/my-queue?x={_hex(rng, 20)}&state={examples.random_text('alnum', 20, rng)}", "v": "https://user@example.com:8443/a:b@c"},
}  # fmt: skip


def clean(count: int, seed: int = 9) -> Iterator[Answer]:
    """Answers without a secret that look as if they had one."""
    rng = random.Random(seed)
    carriers = list(CARRIERS)
    kinds = list(LOOKALIKES)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        value = LOOKALIKES[kind](rng)
        carrier = rng.choice(carriers)
        if carrier in {"json", "header"}:
            call, headers = _call("ec2:DescribeInstances", "json"), _headers("application/x-amz-json-1.1")
            yield Answer(
                call, headers, json.dumps({"kind": kind, "value": value, "w": words(rng, 9)}).encode(), carrier=kind
            )
            continue
        text = json.dumps(value) if rng.random() < 0.7 else "\n".join(f"{k}: {v}" for k, v in value.items())  # type: ignore[attr-defined]
        call, headers, body = CARRIERS[carrier](text, rng)
        yield Answer(call, headers, body, carrier=kind)
