"""Answers: secrets are hidden whatever the carrier and encoding, clean answers are the same object, clients can read them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import zlib
from pathlib import Path

import brotli
import pytest
import zstandard
from masking_tools import alnum, aws_secret, call, github, headers, masker, shipped

from flowwarden.errors import Refusal

SECRET_ANSWER = {
    "ARN": "arn:aws:secretsmanager:eu-west-1:1:secret:x",
    "SecretString": "hunter2",
    "SecretBinary": "aGVsbG8=",
}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def test_masking_get_secret_value() -> None:
    """GetSecretValue's secret members are hidden, the rest stays, and a blob member stays base64."""
    out = shipped().mask_answer(call("secretsmanager:GetSecretValue"), 200, headers(), _json(SECRET_ANSWER))
    read = json.loads(out.body)
    assert read["ARN"] == SECRET_ANSWER["ARN"]
    assert read["SecretString"] == "[MASKED:aws-members]"
    assert base64.b64decode(read["SecretBinary"]) == b"[MASKED:aws-members]"
    assert out.counts["aws-members"] == 2


def test_masking_keeps_what_the_gateway_minted() -> None:
    """STS credentials that are phantoms pass; a real one beside them does not."""
    phantom, real = alnum(40, 1), alnum(40, 2)
    body = (
        f"<AssumeRoleResponse><AssumeRoleResult><Credentials><SecretAccessKey>{phantom}</SecretAccessKey>"
        f"<SessionToken>{real}</SessionToken></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ).encode()
    out = shipped().mask_answer(
        call("sts:AssumeRole", "query"), 200, headers("text/xml"), body, keep=lambda value: value == phantom
    )
    assert phantom.encode() in out.body and real.encode() not in out.body


WRAPPINGS = {
    "plain": lambda token: f"the token is {token}.",
    "json in json": lambda token: json.dumps({"deep": {"list": [{"note": f"x {token}"}]}}),
    "json in json in json": lambda token: json.dumps({"a": json.dumps({"b": token})}),
    "base64": lambda token: base64.b64encode(f"some text {token}\n".encode()).decode(),
    "base64url without padding": lambda token: base64.urlsafe_b64encode(f"??>>{token}".encode()).decode().rstrip("="),
    "gzip in base64": lambda token: base64.b64encode(gzip.compress(f"log line {token}".encode())).decode(),
    "url-encoded": lambda token: "q=1&v=" + token.replace("_", "%5F"),
    "url-encoded json": lambda token: "%7B%22a%22%3A%22" + token + "%22%7D",
    "unicode escapes": lambda token: token,
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("coding", ["", "gzip", "br", "zstd", "deflate", "raw deflate"])
def test_masking_inside_encodings(wrapping: str, coding: str) -> None:
    """A token is found inside every encoding, under every content coding, and the answer still decodes."""
    token = github()
    plain = _json({"events": [{"message": WRAPPINGS[wrapping](token), "id": 12345678901234567890}]})
    if wrapping == "unicode escapes":
        plain = plain.replace(b"ghp_", b"\\u0067hp\\u005f")
    body = {
        "": lambda b: b,
        "gzip": gzip.compress,
        "br": brotli.compress,
        "zstd": zstandard.compress,
        "deflate": zlib.compress,
        "raw deflate": lambda b: zlib.compress(b)[2:-4],
    }[coding](plain)
    more = {"content_encoding": coding.removeprefix("raw ")} if coding else {}
    out = shipped().mask_answer(call("logs:GetLogEvents"), 200, headers(content_length=str(len(body)), **more), body)
    assert out.counts == {"github-token": 1}
    undo = {"": bytes, "gzip": gzip.decompress, "br": brotli.decompress, "zstd": zstandard.decompress}
    decoded = undo.get(coding, zlib.decompress)(out.body)
    message = json.loads(decoded)["events"][0]["message"]
    assert token not in decoded.decode() and token not in message
    assert b"12345678901234567890" in decoded
    assert dict(out.headers)[b"content-length"] == b"%d" % len(out.body)


def test_masking_clean_answer_is_the_same_object() -> None:
    """Nothing to mask: the same bytes and the same headers, checksums included."""
    body = gzip.compress(_json({"Items": [{"Id": "i-0123456789abcdef0", "NextToken": alnum(60)}]}))
    fields = headers(content_encoding="gzip", x_amz_crc32="123")
    out = shipped().mask_answer(call("dynamodb:Query"), 200, fields, body)
    assert out.body is body and out.headers == fields and not out.counts


def test_masking_checksums_go_with_the_old_body() -> None:
    """Checksums of the old body are dropped, the ETag stays, Content-Length is counted again."""
    fields = headers(
        x_amz_crc32="1",
        x_amz_checksum_crc64nvme="x",
        Content_MD5="x",
        ETag='"abc"',
        Content_Length="9",
        x_amz_checksum_type="FULL",
    )
    out = shipped().mask_answer(call("secretsmanager:GetSecretValue"), 200, fields, _json(SECRET_ANSWER))
    names = {name.lower() for name, _ in out.headers}
    assert names == {b"content-type", b"etag", b"content-length"}


def test_masking_object_keeps_its_length() -> None:
    """An S3 object's masks are as long as what they hide, and the mask is recognisable."""
    body = f"[default]\naws_secret_access_key = {aws_secret()}\ncard=4111111111111111\n".encode()
    out = shipped().mask_answer(call("s3:GetObject", "rest-xml"), 200, headers("binary/octet-stream"), body)
    assert len(out.body) == len(body) and aws_secret().encode() not in out.body
    assert b"[MASKED:aws-secret-key*" in out.body
    assert b"4111111111111111" in out.body  # personal data only for the groups a rule names


def test_masking_card_number_by_group(tmp_path: Path) -> None:
    """A PII rule holds for the group it names, with its checksum, and in objects where it says so."""
    rule = "masks:\n  - {id: card, pattern: '\\b\\d{16}\\b', check: luhn, objects: on, groups: [developers]}\n"
    body = b'{"a": "card 4111111111111111", "b": "order 4111111111111112"}'
    inside = masker(tmp_path, rule, "developers").mask_answer(call("logs:GetLogEvents"), 200, headers(), body)
    outside = masker(tmp_path, rule, "sre").mask_answer(call("logs:GetLogEvents"), 200, headers(), body)
    assert json.loads(inside.body) == {"a": "card [MASKED:card]", "b": "order 4111111111111112"}
    assert outside.body is body


def test_masking_name_value_pairs() -> None:
    """ECS environments and their like: a secret's name in one member, its value in the next, in JSON and XML."""
    value = "Xy7" + alnum(9)
    body = _json(
        {"environment": {"vars": [{"value": value, "name": "DB_PASSWORD"}, {"name": "MODE", "value": "prod"}]}}
    )
    out = shipped().mask_answer(call("elasticache:DescribeX"), 200, headers(), body)
    assert value.encode() not in out.body and b"prod" in out.body
    xml = f"<R><member><Name>DB_PASSWORD</Name><Value>{value}</Value></member></R>".encode()
    assert value.encode() not in shipped().mask_answer(call("cfn:X", "query"), 200, headers("text/xml"), xml).body


def test_masking_xml_text_forms() -> None:
    """Entities, CDATA, comments and attributes cannot hide a token, and what is written back is still XML."""
    token = github()
    entities = "".join(f"&#{ord(c)};" for c in token)
    body = (
        f"<R xmlns='urn:x'><A>{entities}</A><B><![CDATA[{token}]]></B><C>{token[:9]}<!-- x -->{token[9:]}</C>"
        f"<D a='{token}'/><E>a &amp; b</E></R>"
    ).encode()
    out = shipped().mask_answer(call("iam:GetUser", "query"), 200, headers("text/xml"), body)
    assert out.counts == {"github-token": 4}
    assert b"<E>a &amp; b</E>" in out.body and token.encode() not in out.body


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/x-amz-json-1.1", b'{"a": ', "UnreadableAnswer"),
        ("text/xml", b"<a><b></a>", "UnreadableAnswer"),
        ("text/xml", b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "UnreadableAnswer"),
        ("application/json", b"[" * 200_000, "TooDeep"),
        ("multipart/mixed; boundary=x", b"--x\r\n", "UnknownCarrier"),
    ],
)
def test_masking_refuses_what_it_cannot_read(content_type: str, body: bytes, code: str) -> None:
    """A body that must be read and cannot is refused with 502, never passed."""
    with pytest.raises(Refusal) as refused:
        shipped().mask_answer(call("logs:GetLogEvents"), 200, headers(content_type), body)
    assert (refused.value.status, refused.value.station, refused.value.code) == (502, "mask", code)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate"])
def test_masking_refuses_bombs_and_lies(coding: str) -> None:
    """A body that grows out of proportion, and one that is not what its coding says, are refused."""
    bomb = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress, "deflate": zlib.compress}[coding](
        b"0" * 40_000_000
    )
    for body, code in ((bomb, "TooLarge"), (b"nonsense that is no such thing", "UnreadableAnswer")):
        with pytest.raises(Refusal) as refused:
            shipped().mask_answer(call("logs:GetLogEvents"), 200, headers(content_encoding=coding), body)
        assert refused.value.code == code


def test_masking_opaque(tmp_path: Path) -> None:
    """An image passes and is noted as not inspected; a rule can deny it."""
    image = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    out = shipped().mask_answer(call(), 200, headers("image/png"), image)
    assert out.body is image and not out.inspected and out.notes
    denying = masker(tmp_path, "opaque: deny\nmasks:\n  - {id: x, fields: [x]}\n")
    with pytest.raises(Refusal, match="cannot be searched"):
        denying.mask_answer(call(), 200, headers("image/png"), image)


def test_masking_headers_and_errors() -> None:
    """Response headers and error bodies are searched like any other."""
    token = github()
    out = shipped().mask_answer(
        call("logs:GetLogEvents"), 400, headers(x_amzn_errormessage=f"bad {token}"), _json({"message": f"no {token}"})
    )
    assert token.encode() not in out.body and b"[MASKED:github-token]" in dict(out.headers)[b"x-amzn-errormessage"]


def test_masking_request_for_recording() -> None:
    """What the agent itself sends is masked in the recording: CreateSecret, a query form, a header, a broken body."""
    mask = shipped().mask_request_for_recording
    out = mask(call("secretsmanager:CreateSecret"), headers(), _json({"Name": "x", "SecretString": "hunter2"}))
    assert json.loads(out.body) == {"Name": "x", "SecretString": "[MASKED:aws-members]"}
    put = _json({"Name": "x", "Value": "plain", "Type": "SecureString"})
    assert json.loads(mask(call("ssm:PutParameter"), headers(), put).body)["Value"] == "[MASKED:aws-members]"
    form = f"Action=CreateX&DBPassword=Xy7{alnum(9)}&Version=1".encode()
    out = mask(call("rds:CreateX", "query"), headers("application/x-www-form-urlencoded"), form)
    assert alnum(9).encode() not in out.body and b"Version=1" in out.body
    assert github() not in str(mask(call(), headers(x_token=github()), b"").headers)
    assert github().encode() not in mask(call("a:B"), headers(), b'{"broken": ' + github().encode()).body


def test_masking_text_of_logs() -> None:
    """URLs and log lines."""
    assert shipped().mask_text(f"https://x/?t={github()}&a=1") == "https://x/?t=[MASKED:github-token]&a=1"
    clean = "GET https://example.com/a?b=c"
    assert shipped().mask_text(clean) is clean


def test_masking_content_addressed_is_refused() -> None:
    """A registry's blob is checked against its digest by clients: it passes clean and is refused with a secret."""
    clean, dirty = b'{"schemaVersion": 2}', _json({"config": github()})
    fields = headers("application/json", docker_content_digest="sha256:" + hashlib.sha256(clean).hexdigest())
    assert shipped().mask_answer(call(), 200, fields, clean).body is clean
    with pytest.raises(Refusal):
        shipped().mask_answer(call(), 200, fields, dirty)
