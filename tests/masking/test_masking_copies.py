"""Copies of ranges: whatever is asked in whatever order, an object that is completed of them is one whole object.

The judge is a small S3 of its own. It takes requests later than they were judged, and loses answers.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from masking_tools import call

from flowwarden.errors import Refusal
from flowwarden.masking import copies as copies_module
from flowwarden.masking import copysource
from flowwarden.masking.copies import Copies
from flowwarden.masking.copysource import Name, Told
from flowwarden.types import Call, Request

SPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def _call(name: str, **params: Any) -> Call:
    return call(f"s3:{name}", "rest-xml", params=params)


def _asked(body: bytes = b"", *fields: tuple[str, str]) -> Request:
    return Request("PUT", "https", "s3", 443, "/", tuple((n.encode(), v.encode()) for n, v in fields), body)


def _completion(parts: list[tuple[int, str]]) -> tuple[dict[str, Any], bytes]:
    """The parameter and the body, as boto3 writes it."""
    inner = "".join(f'<Part><ETag>"{etag}"</ETag><PartNumber>{n}</PartNumber></Part>' for n, etag in parts)
    body = f"<CompleteMultipartUpload {SPACE}>{inner}</CompleteMultipartUpload>"
    return {"Parts": [{"PartNumber": n, "ETag": f'"{etag}"'} for n, etag in parts]}, body.encode()


@dataclass
class Part:
    data: bytes
    etag: str
    ranged: bool


class FakeS3:
    """Objects, and uploads with one part a number. `opaque`: ETags that say nothing of the content, as with KMS."""

    def __init__(self, opaque: bool) -> None:
        self.opaque = opaque
        self.count = 0
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.ever: set[bytes] = set()  # each content that an object has had
        self.uploads: dict[str, dict[int, Part]] = {}

    def etag(self, data: bytes) -> str:
        self.count += 1
        return f"{self.count:032x}" if self.opaque else hashlib.md5(data).hexdigest()

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data, self.etag(data)
        self.ever.add(data)

    def copy(self, upload: str, number: int, key: str, span: tuple[int, int], etag: str) -> bytes:
        data, now = self.objects[key]
        if now != etag or span[1] >= len(data) or upload not in self.uploads:
            return b"<Error><Code>PreconditionFailed</Code></Error>"
        data = data[span[0] : span[1] + 1]
        part = self.uploads[upload][number] = Part(data, self.etag(data), True)
        return f"<CopyPartResult><ETag>&quot;{part.etag}&quot;</ETag></CopyPartResult>".encode()

    def complete(self, upload: str, parts: list[tuple[int, str]]) -> tuple[list[Part], bytes]:
        there = self.uploads.get(upload, {})
        numbers = [number for number, _ in parts]
        if not parts or numbers != sorted(set(numbers)):
            return [], b"<Error/>"
        if any(number not in there or there[number].etag != etag for number, etag in parts):
            return [], b"<Error/>"
        del self.uploads[upload]
        return [there[number] for number in numbers], b"<CompleteMultipartUploadResult/>"


SECRET = b"abcd"


class World:
    """Two sessions, their uploads and what is under way. What the gateway does not refuse happens now or later.

    `fate` is now, later (see `happen`) or lost: then it happens, and the gateway does not get the answer.
    """

    def __init__(self, opaque: bool) -> None:
        self.s3, self.copies = FakeS3(opaque), Copies(lambda _session: True)
        self.s3.put("secret", SECRET)
        self.s3.put("decoy", b"xy")
        self.begun: list[str] = []
        self.seen: list[tuple[int, str]] = []
        self.waiting: list[Callable[[bool], None]] = []
        self.codes: set[tuple[int, str, str]] = set()
        for session in ("s1", "s2"):
            self.begin(session, "now")
            self.look(session, "secret")
            self.look(session, "decoy")

    def _judged(self, session: str, asked: Call, request: Request) -> str | None:
        try:
            return self.copies.judge(session, asked, request)
        except Refusal as why:
            self.codes.add((why.status, why.code, why.station))
            return None

    def _send(self, happens: Callable[[bool], None], fate: str) -> None:
        if fate == "later":
            self.waiting.append(happens)
        else:
            happens(fate == "lost")

    def happen(self, back: int, lost: bool) -> None:
        self.waiting.pop(back % len(self.waiting))(lost)

    def look(self, session: str, key: str) -> None:
        if key in self.s3.objects:
            data, etag = self.s3.objects[key]
            fields = ((b"ETag", f'"{etag}"'.encode()), (b"Content-Length", b"%d" % len(data)))
            self.copies.head(session, _call("HeadObject", Bucket="b", Key=key), 200, fields)

    def begin(self, session: str, fate: str) -> None:
        upload = f"u{len(self.begun)}"
        self.s3.uploads[upload] = {}
        self.begun.append(upload)
        if fate != "lost":
            body = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            self.copies.body(session, _call("CreateMultipartUpload", Bucket="b", Key="made"), 200, body.encode())

    def _upload(self, back: int) -> str:
        return self.begun[-1 - back % len(self.begun)]

    def copy(
        self, session: str, back: int, number: int, key: str, span: tuple[int, int], fate: str, own: str = ""
    ) -> None:
        """`own`: with the ETag of this key's object as the client's own condition."""
        upload = self._upload(back)
        match = self.s3.objects[own][1] if own in self.s3.objects else None
        condition = {} if match is None else {"CopySourceIfMatch": match}
        copy = {"CopySource": f"/b/{key}", "CopySourceRange": f"bytes={span[0]}-{span[1]}", **condition}
        asked = _call("UploadPartCopy", UploadId=upload, PartNumber=number, **copy)
        etag = self._judged(session, asked, _asked())
        if etag is None:
            return
        assert etag

        def happens(lost: bool) -> None:
            answer = self.s3.copy(upload, number, key, span, match or etag)
            self.seen += [(number, found)] if (found := copysource.part_etag(answer)) else []
            if not lost:
                self.copies.body(session, asked, 200, answer, etag)

        self._send(happens, fate)

    def upload(self, back: int, number: int, content: bytes, fate: str) -> None:
        upload = self._upload(back)

        def happens(_lost: bool) -> None:
            if upload in self.s3.uploads:
                part = self.s3.uploads[upload][number] = Part(content, self.s3.etag(content), False)
                self.seen.append((number, part.etag))

        self._send(happens, fate)

    def complete(self, session: str, back: int, pick: str, fate: str) -> None:
        """`pick`: which parts are listed."""
        upload = self._upload(back)
        there = [(n, part.etag) for n, part in sorted(self.s3.uploads.get(upload, {}).items())]
        last = [next((part for part in reversed(self.seen) if part[0] == number), (9, "")) for number in (1, 2)]
        parts = {"all": there, "first": there[:1], "last": there[-1:], "seen": self.seen[-1:], "two": last}[pick]
        listed, body = _completion(parts)
        asked = _call("CompleteMultipartUpload", UploadId=upload, MultipartUpload=listed)
        if self._judged(session, asked, _asked(body)) is None:
            return

        def happens(lost: bool) -> None:
            made, answer = self.s3.complete(upload, parts)
            if made:
                whole = b"".join(part.data for part in made)
                if any(part.ranged for part in made):
                    assert whole in self.s3.ever, "a part of an object became an object"
                self.s3.put("made", whole)
            if not lost:
                self.copies.body(session, asked, 200, answer)

        self._send(happens, fate)

    def abort(self, session: str, back: int) -> None:
        upload = self._upload(back)
        if self.s3.uploads.pop(upload, None) is not None:
            self.copies.body(session, _call("AbortMultipartUpload", UploadId=upload), 204, b"")


KEYS = st.sampled_from(["secret", "secret", "decoy", "made"])
SESSIONS = st.sampled_from(["s1", "s2"])
SPANS = st.sampled_from(
    [(0, 1), (2, 3), (0, 3), (1, 3), (0, 2), (3, 3)]
)  # halves of the secret, a decoy, and the whole
DATA = st.sampled_from([SECRET, b"xy", b"cd", b"abxy", b"abab"])
FATE = st.sampled_from(["now", "now", "now", "later", "later", "lost"])
NUMBER = st.integers(1, 2)
BACK = st.integers(0, 2)


class Splitter(RuleBasedStateMachine):
    """An agent that tries everything."""

    @initialize(opaque=st.booleans())
    def start(self, opaque: bool) -> None:
        self.world = World(opaque)

    @invariant()
    def refusals_say_why(self) -> None:
        assert self.world.codes <= {(400, "PartialCopyRefused", "keep-masks")}

    @rule(session=SESSIONS, key=KEYS)
    def look(self, session: str, key: str) -> None:
        self.world.look(session, key)

    @rule(key=KEYS, data=DATA)
    def put(self, key: str, data: bytes) -> None:
        """Or a copy of a whole object, which nobody refuses."""
        self.world.s3.put(key, data)

    @rule(session=SESSIONS, fate=FATE)
    def begin(self, session: str, fate: str) -> None:
        self.world.begin(session, fate)

    @rule(session=SESSIONS, back=BACK, number=NUMBER, key=KEYS, span=SPANS, fate=FATE, own=st.just("") | KEYS)
    def copy(self, session: str, back: int, number: int, key: str, span: tuple[int, int], fate: str, own: str) -> None:
        self.world.copy(session, back, number, key, span, fate, own)

    @rule(back=BACK, number=NUMBER, content=DATA, fate=FATE)
    def upload(self, back: int, number: int, content: bytes, fate: str) -> None:
        self.world.upload(back, number, content, fate)

    @rule(session=SESSIONS, back=BACK, pick=st.sampled_from(["all", "first", "last", "seen", "two"]), fate=FATE)
    def complete(self, session: str, back: int, pick: str, fate: str) -> None:
        self.world.complete(session, back, pick, fate)

    @precondition(lambda self: self.world.waiting)
    @rule(back=st.integers(0, 3), lost=st.booleans())
    def happen(self, back: int, lost: bool) -> None:
        self.world.happen(back, lost)

    @rule(session=SESSIONS, back=BACK)
    def abort(self, session: str, back: int) -> None:
        self.world.abort(session, back)

    @rule(session=SESSIONS)
    def end(self, session: str) -> None:
        self.world.copies.forget(session)
        self.world.look(session, "secret")


TestSplitter = Splitter.TestCase
TestSplitter.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)


@pytest.fixture(params=[False, True], ids=["md5", "opaque"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def test_masking_copies_as_they_should_be(world: World) -> None:
    """Else the attacks below would prove nothing."""
    world.copy("s1", 0, 1, "secret", (0, 1), "later")
    world.copy("s1", 0, 2, "secret", (2, 3), "now", "secret")
    world.happen(0, False)
    world.complete("s2", 0, "all", "now")
    assert world.s3.objects["made"][0] == SECRET
    world.copy("s2", 1, 1, "made", (0, 3), "now")
    world.look("s2", "made")
    world.copy("s2", 1, 2, "made", (0, 3), "now")
    world.s3.objects.pop("made")
    world.complete("s2", 1, "all", "now")
    assert world.s3.objects["made"][0] == SECRET


@pytest.mark.parametrize("own", ["", "secret", "decoy"])
def test_masking_copies_of_another_object_in_the_place_of_a_known_one(world: World, own: str) -> None:
    """The size told is that of a decoy; the secret is copied over it, and then its first bytes are the decoy's whole."""
    world.s3.put("decoy", SECRET)
    world.copy("s1", 0, 1, "decoy", (0, 1), "now", own)
    world.complete("s1", 0, "all", "now")
    assert "made" not in world.s3.objects


def test_masking_copies_of_another_object_between_two_ranges(world: World) -> None:
    world.s3.put("other", b"wxyz")
    world.look("s1", "other")
    world.copy("s1", 0, 1, "other", (0, 1), "now")
    world.s3.put("other", SECRET)
    world.look("s1", "other")
    world.copy("s1", 0, 2, "other", (2, 3), "now")
    world.complete("s1", 0, "all", "now")
    assert "made" not in world.s3.objects


def test_masking_copies_whose_answer_is_lost(world: World) -> None:
    world.copy("s1", 0, 1, "secret", (0, 1), "lost")
    world.complete("s1", 0, "all", "now")
    assert "made" not in world.s3.objects


def test_masking_copies_beside_a_completion(world: World) -> None:
    """The part's ETag is known from another upload, so that a Complete can list it before it is copied."""
    world.copy("s1", 1, 1, "secret", (0, 1), "now")
    world.complete("s1", 0, "seen", "later")
    world.copy("s1", 0, 1, "secret", (0, 1), "now")
    while world.waiting:
        world.happen(0, False)
    assert "made" not in world.s3.objects


def test_masking_copies_and_another_part_of_the_same_number(world: World) -> None:
    """The range is listed and a plain part is there, then another range; the ETag tells them apart."""
    world.copy("s1", 0, 1, "secret", (0, 1), "now")
    world.copy("s1", 0, 2, "secret", (2, 3), "now")
    world.upload(0, 1, b"xx", "now")
    world.complete("s1", 0, "all", "now")
    world.copy("s1", 0, 1, "secret", (0, 3), "now")
    world.copy("s1", 0, 1, "secret", (1, 3), "lost")
    world.complete("s1", 0, "all", "now")
    assert "made" not in world.s3.objects
    world.copy("s1", 0, 1, "secret", (0, 1), "now")
    world.complete("s1", 0, "all", "now")
    assert world.s3.objects["made"][0] == SECRET


class Way:
    """One upload, told step by step."""

    def __init__(self, size: int = 30, etag: str = "e") -> None:
        self.copies = Copies(lambda _session: True)
        self.look(size, etag)
        self.begin()

    def look(self, size: int, etag: str = "e", key: str = "k", session: str = "s") -> None:
        fields = ((b"etag", f'"{etag}"'.encode()), (b"content-length", b"%d" % size))
        self.copies.head(session, _call("HeadObject", Bucket="b", Key=key), 200, fields)

    def begin(self, upload: str = "u", session: str = "s") -> None:
        body = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        self.copies.body(session, _call("CreateMultipartUpload"), 200, body.encode())

    def copy(self, number: int, span: str | None, source: str = "b/k", **more: Any) -> str:
        params = {"UploadId": "u", "CopySource": source, "PartNumber": number, **more}
        asked = _call("UploadPartCopy", **params, **({} if span is None else {"CopySourceRange": f"bytes={span}"}))
        etag = self.copies.judge("s", asked, _asked())
        answer = f"<CopyPartResult><ETag>&#34;p{number}&#34;</ETag></CopyPartResult>".encode()
        self.copies.body("s", asked, 200, answer, etag)
        return etag

    def complete(self, *numbers: int, upload: str = "u", body: bytes | None = None) -> None:
        listed, written = _completion([(number, f"p{number}") for number in numbers])
        asked = _call("CompleteMultipartUpload", UploadId=upload, MultipartUpload=listed)
        self.copies.judge("t", asked, _asked(written if body is None else body))
        self.copies.body("t", asked, 200, b"<CompleteMultipartUploadResult/>")


def test_masking_copies_of_all_ranges_in_any_order_of_copying() -> None:
    """What every SDK does; another session may complete it, and an SDK's second try passes."""
    way = Way()
    assert [way.copy(number, span) for number, span in ((7, "20-29"), (1, "0-9"), (2, "10-19"))] == ["e"] * 3
    way.complete(1, 2, 7)
    way.complete(1, 2, 7)


@pytest.mark.parametrize(
    ("copied", "listed", "why"),
    [
        (["0-9", "10-28"], [1, 2], "byte 29 of a source of 30"),
        (["1-9", "10-29"], [1, 2], "part 1 does not follow"),
        (["0-9", "11-29"], [1, 2], "part 2 does not follow"),
        (["0-9", "9-29"], [1, 2], "part 2 does not follow"),
        (["0-9", "10-29"], [1], "byte 10 of"),
        (["0-9", "10-29"], [2], "part 2 does not follow"),
        (["10-29", "0-9"], [1, 2], "part 1 does not follow"),
        (["0-9", "10-29"], [2, 1], "part 2 does not follow"),
        (["0-29"], [1, 2], "part 2 is not known"),
        (["0-9", None], [1, 2], "part 2 is not known"),
        ([None, "0-29"], [1, 2], "part 1 is not known"),
        (["0-9"], [], "cannot be read"),
    ],
)
def test_masking_copies_that_are_not_the_whole(copied: list[str | None], listed: list[int], why: str) -> None:
    way = Way()
    for number, span in enumerate(copied, 1):
        way.copy(number, span)
    with pytest.raises(Refusal, match=why) as refused:
        way.complete(*listed)
    assert "\n" not in refused.value.message and "mask: off" in refused.value.message


def test_masking_copies_without_ranges_pass() -> None:
    """Whole sources and plain parts are not looked at; a range that comes while they are completed is too late."""
    way = Way()
    assert way.copy(1, None, "b/unknown") == ""
    listed, body = _completion([(1, "p1"), (2, "plain")])
    asked = _call("CompleteMultipartUpload", UploadId="u", MultipartUpload=listed)
    assert way.copies.judge("s", asked, _asked(body)) == ""
    with pytest.raises(Refusal, match="being completed"):
        way.copy(1, "0-9")


@pytest.mark.parametrize(
    ("span", "more", "why"),
    [
        ("0-9", {"CopySource": "b/other"}, "size is not known"),
        ("0-9", {"CopySource": "b/k?versionId=1"}, "size is not known"),
        ("0-9", {"CopySource": "b"}, "bucket/key"),
        ("0-9", {"CopySource": ""}, "bucket/key"),
        ("9-0", {}, "bytes=first-last"),
        ("-9", {}, "bytes=first-last"),
        ("0-", {}, "bytes=first-last"),
        ("0-9,10-19", {}, "bytes=first-last"),
        ("", {}, "bytes=first-last"),
        ("0-9", {"UploadId": "older"}, "has not seen the upload's beginning"),
        ("0-9", {"CopySourceIfMatch": '"older"'}, "has changed"),
        ("0-9", {"CopySourceIfMatch": ""}, "has changed"),
        ("0-9", {"CopySourceIfMatch": "*"}, "has changed"),
        ("0-9", {"CopySourceIfUnmodifiedSince": 0}, "no other condition"),
    ],
)
def test_masking_copies_that_do_not_leave(span: str, more: dict[str, Any], why: str) -> None:
    """What could not be completed, and what S3 might read in another way, is refused before it is copied."""
    way = Way()
    with pytest.raises(Refusal, match=why):
        way.copy(1, span, **{"source": more.pop("CopySource", "b/k"), **more})
    way.complete(1)  # nothing of it is in the upload
    with pytest.raises(Refusal, match="has not seen the upload's beginning"):
        way.complete(1, upload="older")


def test_masking_copies_of_another_source_or_state() -> None:
    way = Way()
    way.look(30, key="other")
    way.copy(1, "0-9")
    with pytest.raises(Refusal, match="another object"):
        way.copy(2, "10-29", "b/other")
    way.look(29, "e2")
    with pytest.raises(Refusal, match="another state"):
        way.copy(2, "10-28")
    way.copies.forget("s")
    with pytest.raises(Refusal, match="size is not known"):
        way.copy(2, "10-29")


def test_masking_copies_named_elsewhere() -> None:
    """The header with another operation, in the head of a call without parameters, and what is not S3's."""
    field = ("X-Amz-Copy-Source-Range", "bytes=0-9")
    with pytest.raises(Refusal, match="UploadPartCopy only"):
        Copies(lambda _session: True).judge("s", _call("CopyObject", CopySource="b/k"), _asked(b"", field))
    with pytest.raises(Refusal, match="cannot be read"):
        Copies(lambda _session: True).judge("s", call("s3:UploadPartCopy", "rest-xml"), _asked(b"", field))
    with pytest.raises(Refusal, match="bytes=first-last"):
        Copies(lambda _session: True).judge("s", _call("UploadPartCopy", CopySource="b/k"), _asked(b"", field))
    assert Copies(lambda _session: True).judge("s", call("sqs:SendMessage"), _asked(b"", field)) == ""
    assert Copies(lambda _session: True).judge("s", Call(aws=False), _asked(b"", field)) == ""


@pytest.mark.parametrize(
    "change",
    [
        (b"<Part>", b"<x:Part>"),
        (b"<Part>", b"<Part >"),
        (b"</ETag>", b"</ETag><!-- -->"),
        (b"<ETag>", b"<ETag><![CDATA[]]>"),
        (b"</Part>", b"</Part><Part/>"),
        (b"<PartNumber>", b'<PartNumber a="">'),
        (b"2006-03-01", b"2007-03-01"),
        (b"<", b"&lt;"),
    ],
)
def test_masking_copies_in_a_list_that_may_be_read_in_two_ways(change: tuple[bytes, bytes]) -> None:
    way = Way()
    way.copy(1, "0-29")
    body = _completion([(1, "p1")])[1]
    with pytest.raises(Refusal, match="as SDKs do"):
        way.complete(1, body=body.replace(*change))
    way.complete(1, body=b'<?xml version="1.0" encoding="UTF-8"?>\n' + body.replace(SPACE.encode(), SPACE.encode()))


def test_masking_copies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forgotten is refused, and nothing of it is left in memory."""
    monkeypatch.setattr(copies_module, "_UPLOADS", 3)
    monkeypatch.setattr(copies_module, "_ALL_UPLOADS", 5)
    monkeypatch.setattr(copies_module, "_PARTS", 2)
    monkeypatch.setattr(copies_module, "_SIZES", 2)
    way = Way()
    way.copy(1, "0-9")
    way.copy(2, "10-19")
    with pytest.raises(Refusal, match="too many parts"):
        way.copy(3, "20-29")
    for number in range(3):
        way.begin(f"more{number}")
    with pytest.raises(Refusal, match="beginning"):
        way.complete(1, 2)
    for number in range(9):
        way.begin(f"other{number}", f"s{number}")
    way.look(1, key="k1")
    way.look(1, key="k2")
    with pytest.raises(Refusal, match="not known"):
        way.copy(1, "0-9", UploadId="other8")
    way.complete(1, upload="other8")
    for number in range(9):
        way.copies.body("s", _call("AbortMultipartUpload", UploadId=f"other{number}"), 204, b"")
    way.copies.forget("s")
    left = {name: value for name, value in vars(way.copies).items() if not callable(value)}
    assert not any(left.values()), left


def test_masking_copies_of_all_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads that nobody ends do not stand in the way of others for ever."""
    monkeypatch.setattr(copies_module, "_ALL_PARTS", 3)
    way = Way()
    for number in range(4):
        way.begin(f"u{number}", f"s{number}")
        way.copy(1, "0-9", UploadId=f"u{number}")
        way.copy(2, "10-29", UploadId=f"u{number}")
    way.complete(1, 2, upload="u3")
    with pytest.raises(Refusal, match="beginning"):
        way.complete(1, 2, upload="u1")


def test_masking_copies_that_are_complete_take_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies_module, "_PARTS", 2)
    way = Way()
    for number in range(9):
        upload = f"u{number}"
        way.begin(upload)
        way.copy(1, "0-9", UploadId=upload)
        way.copy(2, "10-29", UploadId=upload)
        way.complete(1, 2, upload=upload)


SOURCES = [
    ("b/k", Name("b", "k")),
    ("/b/k", Name("b", "k")),
    ("b%2Fk", Name("b", "k")),
    ("b//k", Name("b", "/k")),
    ("b/a%2Bb%20c%3Fd", Name("b", "a+b c?d")),
    ("b/a%252Fb", Name("b", "a%2Fb")),
    ("b/%C3%BC/ä", Name("b", "ü/ä")),
    ("b/k?versionId=a.B_-1", Name("b", "k", "a.B_-1")),
    ("b/object/k", Name("b", "object/k")),
    ("arn:aws:s3:eu-west-1:123456789012:accesspoint/p/object/a/b", Name("arn:aws:s3:eu-west-1:123456789012:accesspoint/p", "a/b")),
    ("arn%3Aaws%3As3%3Aeu-west-1%3A123456789012%3Aaccesspoint%2Fp%2Fobject%2Fk", Name("arn:aws:s3:eu-west-1:123456789012:accesspoint/p", "k")),
    *((text, None) for text in (
        "", "b", "b/", "//b/k", "b/a+b", "b/a?b", "b/a%", "b/a%zz", "b/%ff", "b/k?versionId=", "b/k?versionId=1?versionId=2",
        "b/k%3FversionId=1", "b/k?versionId=%0d", "b/k?x=1&versionId=1", "arn:aws:s3::123456789012:accesspoint/x.mrap/object/k",
        "arn:aws:s3-object-lambda:eu-west-1:123456789012:accesspoint/p/object/k", "arn:aws:s3:::b/k",
        "arn:aws:s3:eu-west-1:123456789012:accesspoint/p/k",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SOURCES)
def test_masking_copies_sources(text: str, expected: Name | None) -> None:
    assert copysource.source(text) == expected


@pytest.mark.parametrize("key", ["a b+c=d%e:f@g!h'i(j)k*l~m#n?o[p]", "grüße/日本", "double//slash", "a/../dot"])
def test_masking_copies_sources_as_botocore_writes_them(key: str) -> None:
    assert copysource.source(quote(f"b/{key}", safe="/~")) == Name("b", key)


HEADS: list[tuple[int, dict[str, str], dict[str, Any], Told | None]] = [
    (200, {"etag": '"e"', "content-length": "7"}, {}, Told("e", 7)),
    (206, {"etag": '"e"', "content-length": "3", "content-range": "bytes 2-4/7"}, {}, Told("e", 7)),
    (206, {"etag": '"e"', "content-length": "3", "content-range": "bytes 2-4/7"}, {"PartNumber": 2}, Told("e", 7)),
    (206, {"etag": '"e"', "content-length": "3", "content-range": "bytes 2-4/*"}, {}, None),
    (206, {"etag": '"e"', "content-length": "3"}, {}, None),
    (200, {"etag": '"e"', "content-length": "3"}, {"PartNumber": 2}, None),
    (200, {"etag": '"e"'}, {}, None),
    (200, {"content-length": "7"}, {}, None),
    (200, {"etag": '""', "content-length": "7"}, {}, None),
    (200, {"etag": '"a b"', "content-length": "7"}, {}, None),
    (200, {"etag": '"e"', "content-length": "-7"}, {}, None),
    (304, {"etag": '"e"', "content-length": "7"}, {}, None),
    (404, {"etag": '"e"', "content-length": "7"}, {}, None),
]


@pytest.mark.parametrize(("status", "fields", "params", "expected"), HEADS)
def test_masking_copies_sizes_of_heads(
    status: int, fields: dict[str, str], params: dict[str, Any], expected: Told | None
) -> None:
    asked = _call("GetObject", Bucket="b", Key="k", **params)
    made = tuple((name.title().encode(), value.encode()) for name, value in fields.items())
    assert copysource.of_head(asked, status, made) == expected
    assert copysource.of_head(asked, status, (*made, (b"ETAG", b"other"), (b"etag", b"e"))) is None


@pytest.mark.parametrize("encoded", [False, True])
def test_masking_copies_sizes_of_listings(encoded: bool) -> None:
    """`aws s3 sync` asks for no more than the listing."""
    keys = {"a b+c&<": 12_000_000, "small": 4_999_999, "ü": copysource.SMALLEST}
    rows = [
        f"<Contents><Key>{quote(key) if encoded else html.escape(key)}</Key><ETag>&quot;{size}&quot;</ETag><Size>{size}</Size></Contents>"
        for key, size in keys.items()
    ]
    rows.insert(
        0, "<Contents><Key>x</Key><ETag>1</ETag></Contents><Contents><ETag>1</ETag><Size>9999999</Size></Contents>"
    )
    kind = "<EncodingType>url</EncodingType>" if encoded else ""
    body = f"<ListBucketResult>{kind}{''.join(rows)}</ListBucketResult>".encode()
    assert dict(copysource.of_listing(body)) == {key: Told(str(keys[key]), keys[key]) for key in ("a b+c&<", "ü")}
    assert not list(copysource.of_listing((rows[0] + rows[2]).encode()))
    way = Way()
    way.copies.body("s", _call("ListObjectsV2", Bucket="b"), 200, body)
    assert way.copy(1, "0-9", quote("b/a b+c&<")) == "12000000"


def test_masking_copies_answers_that_say_nothing() -> None:
    """Errors come with status 200 as well."""
    way = Way()
    for body in (b"", b"<Error><UploadId>v</UploadId></Error>", b"<InitiateMultipartUploadResult/>"):
        way.copies.body("s", _call("CreateMultipartUpload"), 200, body)
    asked = _call("UploadPartCopy", UploadId="u", CopySource="b/k", PartNumber=1, CopySourceRange="bytes=0-29")
    etag = way.copies.judge("s", asked, _asked())
    for status, body in (
        (200, b"<Error><ETag>p1</ETag></Error>"),
        (500, b"<CopyPartResult><ETag>p1</ETag></CopyPartResult>"),
    ):
        way.copies.body("s", asked, status, body, etag)
    for upload in ("u", "v"):
        with pytest.raises(Refusal):
            way.complete(1, upload=upload)


def test_masking_copies_of_a_session_that_has_ended() -> None:
    """Its answers that come late leave nothing behind."""
    copies = Copies(lambda session: session == "live")
    fields = ((b"etag", b'"e"'), (b"content-length", b"9000000"))
    for session in ("live", "over"):
        copies.head(session, _call("HeadObject", Bucket="b", Key="k"), 200, fields)
    assert set(copies._told) == {"live"}
    copies.forget("live")
    assert not copies._told
