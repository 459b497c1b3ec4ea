"""A strict STS: refuses what the real one refuses, where moto takes anything, and evaluates session policies.

Written from https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html, the IAM guide's quotas, its pages on
session tags, source identity and role chaining, and the description of Signature Version 4; not from the gateway's code.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import string
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
ROLE_ARN = re.compile(r"arn:aws:iam::(\d{12}):role/([\w+=,.@/-]+)")


class Refused(Exception):
    """An error as STS answers it."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


@dataclass
class Role:
    """A role and what its trust policy allows to whom."""

    arn: str
    trusts: set[str]  # ARNs of callers
    max_duration: int = 3600
    tag_session: bool = True
    set_source_identity: bool = True
    external_id: str = ""


@dataclass
class Identity:
    """Who holds a key."""

    arn: str
    secret: str
    token: str = ""
    expires: datetime | None = None
    assumed: bool = False
    source_identity: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    session_policies: list[dict] = field(default_factory=list)


@dataclass
class StrictSts:
    """State of one stub; `calls` are the parameters of every AssumeRole that passed."""

    roles: dict[str, Role] = field(default_factory=dict)
    keys: dict[str, Identity] = field(default_factory=dict)
    managed: dict[str, dict] = field(default_factory=dict)
    calls: list[dict[str, str]] = field(default_factory=list)
    asked: int = 0
    failing: Refused | None = None
    gate: threading.Event | None = None
    url: str = ""
    web_token: str = ""  # that AssumeRoleWithWebIdentity takes
    ahead: float = 0.0  # seconds that its clock is ahead
    packed_most: int = 4000  # characters of policy and tags; the real one packs them in a way that nobody publishes

    def user(self, arn: str) -> tuple[str, str]:
        """A new user with long-lived keys."""
        key, secret = "AKIA" + _letters(16), secrets.token_urlsafe(30)
        self.keys[key] = Identity(arn, secret)
        return key, secret

    def answer(self, key: Identity, form: dict[str, str]) -> str:
        self.asked += 1
        if self.gate is not None and not self.gate.wait(20):
            raise Refused("ServiceUnavailable", "the gate stayed shut", 503)
        if self.failing is not None:
            raise self.failing
        if form.get("Version") != "2011-06-15":
            raise Refused("InvalidAction", "unknown version")
        if form.get("Action") == "GetCallerIdentity":
            account = key.arn.split(":")[4]
            return f"<GetCallerIdentityResult><Arn>{escape(key.arn)}</Arn><UserId>x</UserId><Account>{account}</Account></GetCallerIdentityResult>"
        if form.get("Action") == "AssumeRole":
            return self._assume_role(key, form)
        raise Refused("InvalidAction", "unknown action")

    def web_identity(self, form: dict[str, str]) -> str:
        """AssumeRoleWithWebIdentity for the one token that is known."""
        if not self.web_token or form.get("WebIdentityToken") != self.web_token:
            raise Refused("InvalidIdentityToken", "No OpenIDConnect provider found for this token")
        role_arn, name = form["RoleArn"], form.get("RoleSessionName", "")
        arn = f"arn:aws:sts::{role_arn.split(':')[4]}:assumed-role/{role_arn.rsplit('/', 1)[1]}/i-1"
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
        new = "ASIA" + _letters(16)
        held = self.keys[new] = Identity(
            arn, secrets.token_urlsafe(30), secrets.token_urlsafe(300), expires, assumed=True
        )
        return (
            f"<AssumeRoleWithWebIdentityResult><AssumedRoleUser><AssumedRoleId>AROA:{escape(name)}</AssumedRoleId>"
            f"<Arn>{escape(arn)}</Arn></AssumedRoleUser><Credentials><AccessKeyId>{new}</AccessKeyId>"
            f"<SecretAccessKey>{held.secret}</SecretAccessKey><SessionToken>{held.token}</SessionToken>"
            f"<Expiration>{expires:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
        )

    def _assume_role(self, key: Identity, form: dict[str, str]) -> str:
        role_arn, name = form.get("RoleArn", ""), form.get("RoleSessionName", "")
        if not ROLE_ARN.fullmatch(role_arn):
            raise Refused("ValidationError", f"{role_arn} is invalid")
        if not NAME.fullmatch(name):
            raise _pattern("roleSessionName", name)
        tags, source = _tags(form), form.get("SourceIdentity", "")
        if "SourceIdentity" in form and (not NAME.fullmatch(source) or source.startswith("aws:")):
            raise _pattern("sourceIdentity", source)
        role = self.roles.get(role_arn)
        if role is None or key.arn not in role.trusts:
            raise _denied(key, "sts:AssumeRole", role_arn)
        if tags and not role.tag_session:
            raise _denied(key, "sts:TagSession", role_arn)
        if (source or key.source_identity) and not role.set_source_identity:
            raise _denied(key, "sts:SetSourceIdentity", role_arn)
        if source and key.source_identity:
            raise _denied(key, "sts:SetSourceIdentity", role_arn)
        if role.external_id != form.get("ExternalId", ""):
            raise _denied(key, "sts:AssumeRole", role_arn)
        seconds = int(form.get("DurationSeconds", "3600"))
        self._duration(seconds, role, key)
        policies = self._policies(form)
        packed = 100 * (len(form.get("Policy", "")) + sum(len(k) + len(v) for k, v in tags.items())) / self.packed_most
        if packed > 100:
            raise Refused("PackedPolicyTooLarge", f"Packed size of session tags and policies is {packed:.0f}%")
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds + self.ahead)
        new = "ASIA" + _letters(16)
        arn = f"arn:aws:sts::{role_arn.split(':')[4]}:assumed-role/{role_arn.rsplit('/', 1)[1]}/{name}"
        held = Identity(
            arn,
            secrets.token_urlsafe(30),
            secrets.token_urlsafe(300),
            expires,
            True,
            source or key.source_identity,
            tags,
            policies,
        )
        self.keys[new] = held
        self.calls.append(form)
        stamp = expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        return (
            f"<AssumeRoleResult><AssumedRoleUser><AssumedRoleId>AROA{_letters(16)}:{escape(name)}</AssumedRoleId>"
            f"<Arn>{escape(arn)}</Arn></AssumedRoleUser><Credentials><AccessKeyId>{new}</AccessKeyId>"
            f"<SecretAccessKey>{held.secret}</SecretAccessKey><SessionToken>{held.token}</SessionToken>"
            f"<Expiration>{stamp}</Expiration></Credentials><PackedPolicySize>{packed:.0f}</PackedPolicySize></AssumeRoleResult>"
        )

    @staticmethod
    def _duration(seconds: int, role: Role, key: Identity) -> None:
        if seconds < 900 or seconds > 43200:
            raise Refused("ValidationError", "durationSeconds has to be between 900 and 43200")
        if key.assumed and seconds > 3600:
            raise Refused(
                "ValidationError", "DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
            )
        if seconds > role.max_duration:
            raise Refused("ValidationError", "DurationSeconds exceeds the MaxSessionDuration set for this role")

    def _policies(self, form: dict[str, str]) -> list[dict]:
        found = []
        text = form.get("Policy")
        if text is not None:
            if not 1 <= len(text) <= 2048:
                raise Refused("ValidationError", "policy has to have length less than or equal to 2048")
            try:
                found.append(_policy(json.loads(text)))
            except (ValueError, KeyError, TypeError):
                raise Refused("MalformedPolicyDocument", "the policy is not in the valid JSON format") from None
        arns = [value for name, value in form.items() if re.fullmatch(r"PolicyArns\.member\.\d+\.arn", name)]
        if len(arns) > 10:
            raise Refused("ValidationError", "at most 10 policy ARNs")
        for arn in arns:
            if arn not in self.managed:
                raise Refused("NoSuchEntity", f"{arn} does not exist", 404)
            found.append(self.managed[arn])
        return found


def permits(policies: list[dict], action: str, context: dict[str, str]) -> bool:
    """Whether session policies together permit an action: some allow, no deny. No policies: no bound."""
    if not policies:
        return True
    allowed = False
    for statement in (statement for policy in policies for statement in policy["Statement"]):
        if not _about(statement, action) or not _holds(statement.get("Condition", {}), context):
            continue
        if statement["Effect"] == "Deny":
            return False
        allowed = True
    return allowed


def _about(statement: dict, action: str) -> bool:
    if "NotAction" in statement:
        return not any(fnmatchcase(action.lower(), one.lower()) for one in _many(statement["NotAction"]))
    return any(fnmatchcase(action.lower(), one.lower()) for one in _many(statement["Action"]))


def _holds(condition: dict, context: dict[str, str]) -> bool:
    for operator, keys in condition.items():
        for key, values in keys.items():
            if operator == "StringNotEquals":  # true also if the key is absent
                good = key not in context or context[key] not in _many(values)
            elif operator == "Null":
                good = (key not in context) == (values == "true")
            else:
                raise ValueError(f"unknown operator {operator}")
            if not good:
                return False
    return True


def _policy(document: dict) -> dict:
    if document["Version"] != "2012-10-17" or not document["Statement"]:
        raise ValueError
    for statement in document["Statement"]:
        if statement["Effect"] not in {"Allow", "Deny"} or ("Action" in statement) == ("NotAction" in statement):
            raise ValueError
        _holds(statement.get("Condition", {}), {})
        if "Resource" not in statement:
            raise ValueError
    return document


def _tags(form: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, key in form.items():
        at = re.fullmatch(r"Tags\.member\.(\d+)\.Key", name)
        if at is None:
            continue
        value = form.get(f"Tags.member.{at[1]}.Value", "")
        if not 1 <= len(key) <= 128 or len(value) > 256 or not _tag_text(key) or not _tag_text(value):
            raise Refused("ValidationError", f"the tag {key!r} = {value!r} is invalid")
        if key.lower() in {one.lower() for one in found} or key.lower().startswith("aws:"):
            raise Refused("InvalidParameterValue", "duplicate or reserved tag keys")
        found[key] = value
    if len(found) > 50:
        raise Refused("ValidationError", "more than 50 tags")
    return found


def _tag_text(text: str) -> bool:
    r"""`[\p{L}\p{Z}\p{N}_.:/=+\-@]*`."""
    return all(one in "_.:/=+-@" or unicodedata.category(one)[0] in "LZN" for one in text)


def _pattern(name: str, value: str) -> Refused:
    return Refused(
        "ValidationError", f"value {value!r} at {name!r} failed to satisfy constraint: [\\w+=,.@-]* of 2 to 64"
    )


def _denied(key: Identity, action: str, resource: str) -> Refused:
    message = f"User: {key.arn} is not authorized to perform: {action} on resource: {resource}"
    return Refused("AccessDenied", message, 403)


def _many(values: str | list[str]) -> list[str]:
    return [values] if isinstance(values, str) else values


def _letters(count: int) -> str:
    return "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(count))


def _authenticated(sts: StrictSts, handler: BaseHTTPRequestHandler, body: bytes) -> Identity:
    """Recomputes the signature of a POST to `/`."""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([\w-]+)/sts/aws4_request, SignedHeaders=([^,]+), Signature=(\w{64})",
        handler.headers.get("Authorization", ""),
    )
    if not found or handler.path != "/":
        raise Refused("MissingAuthenticationToken", "not signed", 403)
    key_id, day, region, signed, signature = found.groups()
    key = sts.keys.get(key_id)
    if key is None or key.token != handler.headers.get("X-Amz-Security-Token", ""):
        raise Refused("InvalidClientTokenId", "The security token included in the request is invalid", 403)
    if key.expires is not None and key.expires < datetime.now(UTC):
        raise Refused("ExpiredToken", "expired", 403)
    names = signed.split(";")
    for name in handler.headers:
        if (name.lower() == "host" or name.lower().startswith("x-amz-")) and name.lower() not in names:
            raise Refused("SignatureDoesNotMatch", f"{name} is not signed", 403)
    headers = "".join(f"{name}:{' '.join(handler.headers[name].split())}\n" for name in names)
    canonical = f"POST\n/\n\n{headers}\n{signed}\n{hashlib.sha256(body).hexdigest()}"
    date = handler.headers["X-Amz-Date"]
    text = (
        f"AWS4-HMAC-SHA256\n{date}\n{day}/{region}/sts/aws4_request\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    )
    signing = ("AWS4" + key.secret).encode()
    for part in (day, region, "sts", "aws4_request"):
        signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()
    if hmac.new(signing, text.encode(), hashlib.sha256).hexdigest() != signature:
        raise Refused("SignatureDoesNotMatch", "The request signature we calculated does not match", 403)
    return key


@contextmanager
def serving(sts: StrictSts) -> Iterator[StrictSts]:
    """Serves a stub on 127.0.0.1; its address is `sts.url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            try:
                form = dict(parse_qsl(body.decode(), keep_blank_values=True))
                if form.get("Action") == "AssumeRoleWithWebIdentity":  # the one call that nobody signs
                    result = sts.web_identity(form)
                else:
                    result = sts.answer(_authenticated(sts, self, body), form)
                name = re.match(r"<(\w+)Result", result)[1]
                status, text = 200, f"<{name}Response>{result}</{name}Response>"
            except Refused as error:
                status = error.status
                text = (
                    f"<ErrorResponse><Error><Type>Sender</Type><Code>{error.code}</Code>"
                    f"<Message>{escape(error.message)}</Message></Error><RequestId>x</RequestId></ErrorResponse>"
                )
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    sts.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield sts
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
