"""`--secrets F`: what masks stand for, by place; nothing is sent while one has no value; no value is ever printed."""

from __future__ import annotations

import base64
import json
import re

import cbor2
import pytest
import requests
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st
from replay_helpers import SESSION, Tape, sandbox

from flowwarden import replay
from flowwarden.cli import main
from flowwarden.errors import ConfigError
from flowwarden.masking import codings
from flowwarden.replay.fill import Filler
from flowwarden.replay.secrets import Secrets

MASK = "[MASKED:secret-fields]"
HASH = "[MASKED:token:1f3a5c7e9b2d]"


@pytest.fixture(scope="module")
def url():
    with sandbox() as url:
        yield url


def filler(told, flow="f1234567", operation="ec2:RunInstances"):
    return Filler(Secrets(told), flow, operation)


@pytest.mark.parametrize(
    ("told", "value"),
    [
        ({"masks": {"*": "any"}}, "any"),
        ({"masks": {"*": "any", "token": "rule"}}, "rule"),
        ({"masks": {"token": "rule"}, "fields": {"a.b": "field"}}, "field"),
        ({"fields": {"a.b": "field"}, "masks": {HASH: "mask"}}, "mask"),
        ({"masks": {HASH: "mask"}, "operations": {"ec2:*": {"b": "operation"}}}, "operation"),
        ({"operations": {"ec2:RunInstances": {"b": "operation"}}, "flows": {"f12": {"*": "flow"}}}, "flow"),
        ({"operations": {"s3:*": {"*": "x"}}, "flows": {"e": {"*": "x"}}, "fields": {"c": "x"}, "masks": {"other": "x"}}, None),
    ],
)  # fmt: skip
def test_the_most_precise_wins(told, value):
    assert Secrets(told).value("f1234567", "ec2:RunInstances", ("a", "b"), HASH) == value


@pytest.mark.parametrize(
    ("content_type", "body", "path", "read"),
    [
        ("application/x-amz-json-1.1", '{"n":1.5,"a":{"b":["x %s y"]}}', "a.b", lambda b: json.loads(b)["a"]["b"][0][2:-2]),
        ("application/json", json.dumps({"policy": json.dumps({"k": "%s"})}), "policy.k",
         lambda b: json.loads(json.loads(b)["policy"])["k"]),
        ("application/x-www-form-urlencoded", "Action=X&Tag.1.Value=%s&B=%%2B", "Tag.Value",
         lambda b: requests.compat.unquote_plus(b.decode().split("&")[1].split("=")[1])),
        ("application/xml", "<R xmlns='u'><A/><B><ns:C>%s</ns:C></B></R>", "B.C",
         lambda b: requests.compat.unquote(re.search("C>(.*)</ns", b.decode(), re.DOTALL)[1])
         .replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")),
        ("text/plain", "key=%s", "body", lambda b: b.decode()[4:]),
        ("application/cbor", None, "a.b", lambda b: cbor2.loads(b)["a"][0]["b"]),
    ],
)  # fmt: skip
def test_every_body_stays_what_it_is(content_type, body, path, read):
    """A value with every sign that some syntax minds is read back whole; what is not masked is not touched."""
    value = "p\"4\\ß <&>'+%;".replace("%", "") if content_type == "application/xml" else "p\"4\\ß <&>'+%2B;="
    data = cbor2.dumps({"a": [{"b": MASK}]}) if body is None else (body % MASK).encode()
    fill = filler({"fields": {path: value}})
    assert read(fill.body(data, content_type)) == value
    assert fill.missing == []
    assert read(codings.decode(fill.body(codings.encode(data, ["gzip"]), content_type, "gzip"), ["gzip"])) == value
    nobody = filler({"fields": {"elsewhere": value}})
    assert read(nobody.body(data, content_type)) == MASK
    assert nobody.missing == [f"{path}: {MASK}"]


def test_targets_and_headers():
    fill = filler({"fields": {"token": "a b/ü&", "path": "x/y z", "X-Amz-Meta-Key": "ü"}})
    assert fill.target(f"/a%20b/{MASK}?token={MASK}&b=%2F") == "/a%20b/x%2Fy%20z?token=a%20b%2F%C3%BC%26&b=%2F"
    assert fill.target("/?token=%5BMASKED%3Asecret-fields%5D") == "/?token=a%20b%2F%C3%BC%26"
    assert fill.header("x-amz-meta-key", MASK) == "ü".encode().decode("latin-1")
    with pytest.raises(ValueError, match="line's end"):
        filler({"masks": {"*": "a\r\nHost: x"}}).header("x", MASK)


@given(
    st.binary(max_size=200), st.sampled_from(["", "application/json", "text/xml", "application/x-www-form-urlencoded"])
)
def test_what_holds_no_mask_is_not_touched(body, content_type):
    assume(b"MASKED" not in body)
    assert filler({"masks": {"*": "x"}}).body(body, content_type) == body


@pytest.mark.parametrize(
    "bad",
    [
        ["s3cr3t"], {"s3cr3t": "x"}, {"masks": "s3cr3t"}, {"fields": {"a": 5}}, {"flows": {"f": "s3cr3t"}},
        {"operations": ["s3cr3t"]}, {"masks": {"[MASKED": "s3cr3t"}},
    ],
)  # fmt: skip
def test_a_file_that_is_none(bad):
    with pytest.raises(ConfigError) as caught:
        Secrets(bad)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("text", ["masks: {a: 's3cr3t", "\t- s3cr3t: [", "s3cr3t"])
def test_a_file_that_cannot_be_read_is_not_quoted(tmp_path, text):
    (tmp_path / "f").write_text(text)
    with pytest.raises(ConfigError) as caught:
        Secrets.load(tmp_path / "f")
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(ConfigError, match="No such file"):
        Secrets.load(tmp_path / "nothing")


def recorded(tmp_path, url):
    requests.post(f"{url}/moto-api/reset", timeout=10)
    tape = Tape(url)
    client = tape.client("secretsmanager")
    client.create_secret(Name="db", SecretString=MASK, Description="what it is for")
    client.get_secret_value(SecretId="db")
    client.describe_secret(SecretId="db")
    folder = tape.record(tmp_path)
    requests.post(f"{url}/moto-api/reset", timeout=10)
    return folder


def test_nothing_is_sent_while_a_mask_has_no_value(tmp_path, url):
    """One clear error that names operation, field, mask and flow; the sandbox hears of nothing."""
    folder = recorded(tmp_path, url)
    for told in (None, {"fields": {"Password": "x"}}):
        with pytest.raises(ConfigError, match=r"SecretString: \[MASKED:secret-fields\] \(flow "):
            replay.replay_to(folder, SESSION, url, secrets=told)
    assert Tape(url).client("secretsmanager").list_secrets()["SecretList"] == []


def test_filled_compared_and_never_told(tmp_path, url):
    """The sandbox has the real value; its answer is the same as the masked one; no output and no recording has it."""
    folder = recorded(tmp_path, url)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    value = 'p4ss"wörd\\' + "x" * 80
    file = tmp_path / "secrets.yaml"
    file.write_text(json.dumps({"operations": {"secretsmanager:*": {"SecretString": value}}}))
    told = CliRunner().invoke(
        main, ["replay", SESSION, "--to", url, "--secrets", str(file), "--recordings", str(folder), "--json"]
    )
    assert [one["verdict"] for one in json.loads(told.stdout)] == ["same"] * 3, told.output
    assert Tape(url).client("secretsmanager").get_secret_value(SecretId="db")["SecretString"] == value
    requests.post(f"{url}/moto-api/reset", timeout=10)
    Tape(url).client("secretsmanager").create_secret(Name="db", SecretString="x", Description=f"it is {value}")
    told = CliRunner().invoke(
        main, ["replay", SESSION, "--to", url, "--secrets", str(file), "--recordings", str(folder), "--json"]
    )  # a table would break what is too long for a line, and a value with it
    assert told.exit_code == 1 and "Description: what it is for" in told.output
    for form in (value, json.dumps(value)[1:-1], "p4ss"):
        assert form not in told.output
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_errors_do_not_tell_either(tmp_path, url):
    """A value that http.client would quote in its refusal."""
    tape = Tape(url)
    tape.client("sts").get_caller_identity()
    flow, _ = tape.flows[0]
    flow.request.headers["x-custom"] = MASK
    folder = tape.record(tmp_path)
    (one,) = replay.replay_to(folder, SESSION, url, secrets={"masks": {"*": "s3cr3t\nx"}})
    assert one.verdict == "failed" and "s3cr3t" not in str(one)


@pytest.mark.parametrize(
    "form",
    [
        str,
        lambda v: json.dumps(v)[1:-1],
        lambda v: requests.compat.quote(v, safe=""),
        lambda v: base64.b64encode(v.encode()).decode(),
        lambda v: v.encode().decode("latin-1"),
    ],
)
def test_no_form_of_a_value_stays(form):
    """Whatever a sandbox makes of a value, in texts, lists, mappings and bytes; short ones as whole fields only."""
    secrets = Secrets({"fields": {"a": 'p4ss"wörd&/'}, "masks": {"b": "no"}})
    text = form('p4ss"wörd&/')
    hidden = secrets.hidden({"a": [f"x {text} y", "no", "nothing", 5], "b": b"x" + 'p4ss"wörd&/'.encode()})
    assert hidden["a"] == ["x [MASKED] y", "[MASKED]", "nothing", 5]
    assert hidden["b"] == b"x[MASKED]"
