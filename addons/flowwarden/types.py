"""The shared small types. This module imports nothing of the project, so that everything may import it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Headers = tuple[tuple[bytes, bytes], ...]
"""Header fields in the order and spelling of the wire."""

Effect = Literal["allow", "deny", "approve"]
BodyMode = Literal["none", "whole", "stream", "spool"]
"""Whether a request is judged without its body, with it, while it streams, or after it was read to disk."""


@dataclass(frozen=True)
class Request:
    """One HTTP request as it came from the agent, free of mitmproxy, so that pure modules can be tested without a proxy.

    `host` is normalised: lower case, no trailing dot, no port, no userinfo. `target` is the origin-form request target
    exactly as sent (path and query, still encoded, latin-1). `body` holds the bytes on the wire (still content-encoded);
    None means that the body was not read because it streams.
    """

    method: str
    scheme: str
    host: str
    port: int
    target: str
    headers: Headers = ()
    body: bytes | None = b""

    @cached_property
    def fields(self) -> dict[str, list[str]]:
        """Header values by lower-case name, in order, latin-1 decoded."""
        found: dict[str, list[str]] = {}
        for name, value in self.headers:
            found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        return found

    def header(self, name: str, default: str = "") -> str:
        """The first value of a header, by lower-case name."""
        values = self.fields.get(name)
        return values[0] if values else default

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts, from a verified OIDC token. `agent` is what acts, `owner` the person it acts for (never its approver)."""

    issuer: str
    subject: str
    agent: str = ""
    owner: str = ""
    groups: frozenset[str] = frozenset()
    name: str = ""
    aliases: frozenset[str] = frozenset()  # e-mail, user names, case-folded: what an owner claim may call this person

    def as_json(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "subject": self.subject,
            "agent": self.agent,
            "owner": self.owner,
            "groups": sorted(self.groups),
            "name": self.name,
        }


@dataclass(frozen=True, slots=True)
class Phantom:
    """AWS credentials that are worth something only to this gateway."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Real AWS credentials. They live in the vault's memory and on the wire, nowhere else; `repr` hides them."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    expires: float = 0.0  # POSIX seconds; 0: does not expire


@dataclass(frozen=True, slots=True)
class Session:
    """One principal's stay at the gateway. Times are POSIX seconds. `ended` is set once and never taken back."""

    id: str  # UUIDv7
    principal: Principal
    start: float
    expires: float
    max_expires: float
    handle_hash: str  # SHA-256 of the handle; the handle itself is never stored
    phantom: Phantom
    token_id: str = ""  # `jti` of the token that started it
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """The API operation as botocore names it: service `s3`, name `ListObjectsV2`."""

    service: str
    name: str

    def __str__(self) -> str:
        return f"{self.service}:{self.name}"


@dataclass(frozen=True, slots=True)
class Action:
    """An AWS action in IAM's words, `s3:ListBucket`, with its access levels (empty: unknown, which never allows)."""

    name: str
    levels: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Call:
    """What a request asks for, as far as it could be recognised.

    `aws` says that the host is one that AWS's own endpoint rules give. `operation` is None where nothing was
    recognised. `params` is None where the parameters were not read (a streaming body's other members still are).
    A resource is an ARN; None in `resources` stands for one that could not be filled, which matches deny and approve
    and never allow. `("*",)` is for actions without a resource type.
    """

    aws: bool
    operation: Operation | None = None
    protocol: str = ""  # query | ec2 | json | rest-json | rest-xml | smithy-rpc-v2-cbor
    region: str = ""
    account: str = ""
    partition: str = "aws"
    signing_name: str = ""  # credential scope's service that AWS expects
    actions: tuple[Action, ...] = ()
    params: Mapping[str, Any] | None = None
    resources: tuple[str | None, ...] = ()
    body: BodyMode = "whole"  # whether the decision needs the body
    unsigned: bool = False  # the operation has no signature (auth type none)
    json_version: str = ""  # for the error form of the json protocols


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """What a rule of effect `approve` asks for. Durations in seconds."""

    approver_groups: frozenset[str] = frozenset()
    approver_principals: frozenset[str] = frozenset()
    count: int = 1
    scope: Literal["request", "operation", "session"] = "request"
    lasts: float = 0.0  # `for:`, with scope session
    hold: float = 25.0
    expires: float = 900.0
    on_timeout: Literal["deny", "allow"] = "deny"
    reason_required: bool = False  # of who answers
    purpose_required: bool = False  # of who asks


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of the rules: effect, ids of the rules that decided, and the digest of the rule set."""

    effect: Effect
    rules: tuple[str, ...] = ()
    reason: str = ""
    digest: str = ""
    terms: ApprovalTerms | None = None
    mask: bool = True  # `mask: off` clears it
    record: Literal["full", "metadata"] = "full"
    sign: bool = False  # a rule that names the host exactly lets a non-endpoint host be signed
    unsigned: bool = False  # a rule lets this operation pass without a signature
    websocket: bool = False
    opaque: Literal["", "allow", "deny"] = ""  # what masks do with what they cannot read; empty: as the masks say
    anchor: bool = False  # the call needs an evidence log that is anchored outside


@dataclass(frozen=True, slots=True)
class Approval:
    """A human's answer to a held access. `state` is open, approved, denied, expired, withdrawn, spent or revoked."""

    id: str
    state: str
    digest: str
    session: str
    summary: Mapping[str, Any]
    terms: ApprovalTerms
    asked: float
    expires: float
    answers: tuple[Mapping[str, Any], ...] = ()
    reason: str = ""  # of the last answer, or why it ended
    purpose: str = ""  # why the requester makes the call

    @property
    def wants_purpose(self) -> bool:
        """Whether it cannot be approved yet, because the requester has to say why first."""
        return self.state == "open" and self.terms.purpose_required and not self.purpose
