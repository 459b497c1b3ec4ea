"""Ways in which a secret might pass unseen, each found by trying: odd charsets, encodings in encodings, odd places."""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import zlib

import cbor2
import pytest
import zstandard
from masking_tools import call, github, headers, shipped

from flowwarden.errors import Refusal
from flowwarden.masking import frames

TOKEN = github(77)
NOTE = f"a note: {TOKEN} and its end"
ESCAPED = "".join(f"\\u{ord(c):04x}" for c in TOKEN)
REFERENCES = "".join(f"&#{ord(c)};" for c in TOKEN)
OBJECT = call("s3:GetObject", "rest-xml", params={"Bucket": "b", "Key": "k"})


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _event(payload: bytes, head: bytes = b"Records", kind: int = 7, name: bytes = b":event-type") -> bytes:
    return frames.build([(name, kind, head)], payload)


def _json(value: object) -> bytes:
    return json.dumps({"a": value, "b": 1}).encode()


EVENTS = "application/vnd.amazon.eventstream"
BODIES: dict[str, tuple[str, bytes]] = {
    "utf-16 with a mark": ("text/plain", NOTE.encode("utf-16")),
    "utf-16 little": ("text/plain", NOTE.encode("utf-16-le")),
    "utf-16 big": ("text/plain", NOTE.encode("utf-16-be")),
    "a mark of utf-16 before ascii": ("text/plain", b"\xff\xfe" + NOTE.encode()),
    "a mark of big utf-16 before ascii": ("text/plain", b"\xfe\xff" + NOTE.encode()),
    "utf-16 that begins like ascii": ("text/plain", ("═" * 300 + "\r\n" + NOTE).encode("utf-16")),
    "ascii behind utf-16": ("text/plain", ("a long text " * 60).encode("utf-16") + NOTE.encode()),
    "ascii behind utf-16 without a mark": ("text/plain", ("a long text " * 60).encode("utf-16-be") + NOTE.encode()),
    "ascii behind utf-16 in binary": ("text/plain", ("x\u4e2d" * 600).encode("utf-16") + NOTE.encode() + b"\0"),
    "a mark of utf-16 in base64": ("application/json", _json(_b64(b"\xff\xfe" + NOTE.encode()))),
    "utf-16 declared": ("text/plain; charset=utf-16le", NOTE.encode("utf-16-le")),
    "utf-16 wrongly declared": ("text/plain; charset=utf-8", NOTE.encode("utf-16-le")),
    "utf-16 json": ("application/json", _json(NOTE).decode().encode("utf-16-le")),
    "utf-16 in base64": ("application/json", _json(_b64(NOTE.encode("utf-16-le")))),
    "mostly chinese utf-16 in base64": ("application/json", _json(_b64(("这里是段文字" * 90 + NOTE + "还有" * 200).encode("utf-16")))),
    "utf-16 in an event": (EVENTS, _event(NOTE.encode("utf-16-le"))),
    "escapes": ("application/json", b'{"a": "' + ESCAPED.encode() + b'"}'),
    "escapes in a text": ("text/plain", f'x = {{"a": "{ESCAPED}"}}'.encode()),
    "escapes in json in a text": ("text/plain", f'log: "{{\\"a\\": \\"{ESCAPED}\\"}}" end'.encode()),
    "escaped slashes": ("text/plain", b'{"u": "https:\\/\\/x.example\\/' + TOKEN.encode() + b'"}'),
    "references in html": ("text/html", f"<p>{REFERENCES}</p>".encode()),
    "references in json": ("application/json", _json(REFERENCES)),
    "gzip in base64": ("application/json", _json(_b64(gzip.compress(_json(NOTE))))),
    "zlib in base64": ("application/json", _json(_b64(zlib.compress(_json(NOTE))))),
    "zstd in base64": ("application/json", _json(_b64(zstandard.compress(_json(NOTE))))),
    "base64 twice": ("application/json", _json(_b64(_b64(NOTE.encode()).encode()))),
    "base64 of gzip of base64": ("application/json", _json(_b64(gzip.compress(_b64(NOTE.encode()).encode())))),
    "url-encoded twice": ("text/plain", f"?x={TOKEN}".replace("_", "%255F").encode()),
    "long url-encoded": ("text/plain", b"v=" + b"a%20" * 20_000 + TOKEN.replace("_", "%5F").encode() + b"%20b"),
    "doubled key": ("application/json", f'{{"a": "{TOKEN}", "a": "x"}}'.encode()),
    "xml comment": ("text/xml", f"<a><!-- {TOKEN} --></a>".encode()),
    "xml instruction": ("text/xml", f"<a><?x {TOKEN}?></a>".encode()),
    "xml element": ("text/xml", f"<a><{TOKEN}/></a>".encode()),
    "xml attribute": ("text/xml", f'<a {TOKEN}="x"/>'.encode()),
    "xml split by cdata": ("text/xml", f"<a>{TOKEN[:9]}<![CDATA[{TOKEN[9:]}]]></a>".encode()),
    "xml split by a comment": ("text/xml", f"<a>{TOKEN[:9]}<!-- x -->{TOKEN[9:]}</a>".encode()),
    "form name": ("application/x-www-form-urlencoded", f"{TOKEN}=a".encode()),
    "event header of bytes": (EVENTS, _event(b"{}", TOKEN.encode(), 6)),
    "event header's name": (EVENTS, _event(b"{}", name=TOKEN.encode())),
    "event id": ("text/event-stream", f"id: {TOKEN}\ndata: x\n\n".encode()),
    "event name": ("text/event-stream", f"data: x\nevent: {TOKEN}\n\n".encode()),
    "cbor in cbor": ("application/cbor", cbor2.dumps({"a": cbor2.CBORTag(24, cbor2.dumps({"b": NOTE}))})),
    "cbor in pieces": ("application/cbor", b"\xa1\x61a\x5f\x49" + TOKEN[:9].encode() + b"\x58\x1f" + TOKEN[9:].encode() + b"\xff"),
    "gzip that is called text": ("text/plain", gzip.compress(NOTE.encode())),
    "bzip2 that is called text": ("text/plain", bz2.compress(NOTE.encode())),
    "ebcdic": ("text/plain; charset=cp500", NOTE.encode("cp500")),
    "utf-7": ("text/plain; charset=utf-7", NOTE.replace("_", "+AF8-").encode()),
    "a charset that nobody knows": ("text/plain; charset=x-own", NOTE.encode()),
}  # fmt: skip
IN_OBJECTS = [name for name in BODIES if name not in {"ebcdic", "utf-7", "a charset that nobody knows"}]
NO_OBJECTS = {
    "xml split by cdata",
    "xml split by a comment",
    "cbor in pieces",
    "utf-16 in an event",
}  # as objects, other bytes


def _found(masked: int, *, inspected: bool) -> None:
    assert masked >= 1 and inspected


@pytest.mark.parametrize("name", BODIES)
def test_masking_evasion_in_an_answer(name: str) -> None:
    """It is masked or refused, whole and streamed; an answer that passes unmasked and inspected is the fault."""
    kind, body = BODIES[name]
    try:
        out = shipped().mask_answer(call(), 200, headers(kind), body)
    except Refusal:
        pass
    else:
        _found(out.counts.total(), inspected=out.inspected)
        assert TOKEN.encode() not in out.body
    for step in (7, 65_536):
        stream = shipped().stream(call(), 200, headers(kind))
        if stream is None:
            continue
        try:
            made = b"".join(stream.feed(body[i : i + step]) for i in range(0, len(body), step)) + stream.finish()
        except Refusal:
            continue
        _found(stream.counts.total(), inspected=stream.inspected)
        assert TOKEN.encode() not in made


@pytest.mark.parametrize("name", [name for name in IN_OBJECTS if name not in NO_OBJECTS])
def test_masking_evasion_in_an_object(name: str) -> None:
    """The same body as an S3 object: masked at its length, or refused."""
    _, body = BODIES[name]
    for step in (7, 65_536):
        stream = shipped().stream(OBJECT, 200, headers("binary/octet-stream"))
        assert stream is not None
        try:
            made = b"".join(stream.feed(body[i : i + step]) for i in range(0, len(body), step)) + stream.finish()
        except Refusal:
            continue
        _found(stream.counts.total(), inspected=stream.inspected)
        assert TOKEN.encode() not in made and len(made) == len(body)


def test_masking_evasion_wide_text_keeps_the_rest() -> None:
    """In UTF-16 only the secret's own characters change, and those that are not Latin stay."""
    text = f"日本 💾 {TOKEN} ünd\r\n日本"
    expected = text.replace(TOKEN, "[MASKED:github-token" + "*" * 19 + "]")
    for codec, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        body = mark + text.encode(codec)
        out = shipped().mask_answer(OBJECT, 200, headers("binary/octet-stream"), body)
        assert out.body == mark + expected.encode(codec)


@pytest.mark.parametrize("mark", [b"\xff\xfe", ("a long text " * 60).encode("utf-16")])
def test_masking_evasion_in_an_upload(mark: bytes) -> None:
    """What is recorded of it has the mask, at the same length."""
    body = mark + NOTE.encode() + b" " * 40_000
    kept = shipped().upload(call("s3:PutObject", "rest-xml", params={"Bucket": "b", "Key": "k"}), headers("text/plain"))
    made = kept.feed(body[:1000]) + kept.feed(body[1000:]) + kept.finish()
    assert TOKEN.encode() not in made and len(made) == len(body) and kept.counts.total() == 1 and not kept.withheld


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_clean_json_in_utf_16_passes(codec: str) -> None:
    """Also where its characters are pairs of ASCII ones."""
    mark = "\ufeff".encode(codec)
    for value in ({"a": "汉" * 300}, {"†" * 300: 1}, {"a": "plain"}):
        body = mark + json.dumps(value, ensure_ascii=False).encode(codec)
        assert shipped().mask_answer(call("dynamodb:GetItem"), 200, headers(), body).body is body
