"""The strict server's STS: refuses what the real one refuses, and accepts the credentials that it gave out.

Limits: API reference of AssumeRole; "IAM and AWS STS quotas" (session tags, names, policies).
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from .sigv4_judge import Refused, Secret

if TYPE_CHECKING:
    from .strict_aws import Answer, Exchange, StrictAws

NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/([\w+=,.@/-]{1,512})", re.ASCII)
POLICY_ARN = re.compile(r"arn:aws[a-z-]*:iam::(?:\d{12}|aws):policy/[\w+=,.@/-]{1,512}", re.ASCII)
TAG_EXTRA = frozenset("_.:/=+-@")


@dataclass
class Lease:
    """What an AssumeRole asked for, as far as later calls or a test need it."""

    role: str
    account: str
    session_name: str
    duration: int
    source_identity: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    policy: dict[str, Any] | None = None
    policy_arns: list[str] = field(default_factory=list)
    made: Secret | None = None
    caller: str = ""  # key id of the call


def members(form: dict[str, str], prefix: str, *names: str) -> list[dict[str, str]]:
    """Structures of a query list, `Tags.member.1.Key` and so on."""
    found = []
    number = 1
    while any(f"{prefix}.member.{number}.{name}" in form for name in names):
        found.append({name: form.get(f"{prefix}.member.{number}.{name}", "") for name in names})
        number += 1
    return found


def invalid(message: str) -> Refused:
    return Refused("ValidationError", message, 400)


def tag_text(text: str) -> bool:
    """The class [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]."""
    return all(letter in TAG_EXTRA or unicodedata.category(letter)[0] in "LZN" for letter in text)


class StrictSts:
    """AssumeRole and GetCallerIdentity. `refuse` makes AssumeRole fail with that error; `leases` lists what it gave."""

    def __init__(self, server: StrictAws) -> None:
        self.server = server
        self.leases: list[Lease] = []
        self.refuse: Refused | None = None
        self.lasts: float | None = None  # seconds, instead of the asked duration

    def handle(self, exchange: Exchange) -> Answer | None:
        if exchange.service != "sts":
            return None
        exchange.read()
        form = exchange.seen.form | exchange.seen.query
        action = form.get("Action", "")
        if action == "AssumeRole":
            return self._assume_role(form, exchange.key_id)
        if exchange.signed is None:
            raise Refused("InvalidClientTokenId", "The security token included in the request is invalid.")
        if action == "GetCallerIdentity":
            return self._caller(exchange.signed.secret)
        if action == "GetSessionToken":
            secret = self.server.new_key(token=True, lasts=3600)
            return self._xml(action, self._credentials(secret))
        return None

    def _xml(self, action: str, inner: str) -> Answer:
        body = (
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>{inner}'
            f"</{action}Result><ResponseMetadata><RequestId>strict</RequestId></ResponseMetadata></{action}Response>"
        )
        return 200, {"content-type": "text/xml"}, body.encode()

    def _caller(self, secret: Secret) -> Answer:
        lease = secret.session if isinstance(secret.session, Lease) else None
        account = lease.account if lease else "123456789012"
        role = lease.role.rpartition("/")[2] if lease else ""
        arn = (
            f"arn:aws:sts::{account}:assumed-role/{role}/{lease.session_name}"
            if lease
            else f"arn:aws:iam::{account}:user/test"
        )
        inner = f"<Arn>{escape(arn)}</Arn><UserId>{secret.key_id}</UserId><Account>{account}</Account>"
        return self._xml("GetCallerIdentity", inner)

    def _credentials(self, secret: Secret) -> str:
        until = datetime.fromtimestamp(secret.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return (
            f"<Credentials><AccessKeyId>{secret.key_id}</AccessKeyId><SecretAccessKey>{secret.secret}</SecretAccessKey>"
            f"<SessionToken>{secret.token}</SessionToken><Expiration>{until}</Expiration></Credentials>"
        )

    def _assume_role(self, form: dict[str, str], caller: str) -> Answer:
        lease = self._checked(form, caller)
        if self.refuse:
            raise self.refuse
        secret = self.server.new_key(token=True, lasts=self.lasts or lease.duration)
        secret.session = lease
        lease.made = secret
        self.leases.append(lease)
        user = (
            f"<AssumedRoleUser><AssumedRoleId>AROASTRICT:{lease.session_name}</AssumedRoleId>"
            f"<Arn>arn:aws:sts::{lease.account}:assumed-role/{lease.role.rpartition('/')[2]}/{lease.session_name}</Arn>"
            f"</AssumedRoleUser>"
        )
        source = f"<SourceIdentity>{lease.source_identity}</SourceIdentity>" if lease.source_identity else ""
        return self._xml("AssumeRole", self._credentials(secret) + user + source)

    def _checked(self, form: dict[str, str], caller: str) -> Lease:
        role = ROLE.fullmatch(form.get("RoleArn", ""))
        if not role:
            raise invalid(f"RoleArn {form.get('RoleArn')!r}")
        if not NAME.fullmatch(form.get("RoleSessionName", "")):
            raise invalid(f"RoleSessionName {form.get('RoleSessionName')!r}")
        source = form.get("SourceIdentity", "")
        if "SourceIdentity" in form and (not NAME.fullmatch(source) or source.lower().startswith("aws:")):
            raise invalid(f"SourceIdentity {source!r}")
        duration = form.get("DurationSeconds", "3600")
        chained = bool(getattr(self.server.secrets.get(caller), "session", None))
        if not duration.isdigit() or not 900 <= int(duration) <= (3600 if chained else 43200):
            raise invalid(f"DurationSeconds {duration!r}")
        tags = self._tags(form)
        arns = [item["arn"] for item in members(form, "PolicyArns", "arn")]
        if len(arns) > 10 or not all(POLICY_ARN.fullmatch(arn) for arn in arns):
            raise invalid(f"PolicyArns {arns}")
        policy = self._policy(form)
        if sum(map(len, [form.get("Policy", ""), *arns])) > 2048:
            raise Refused("PackedPolicyTooLarge", "policy and policy ARNs", 400)
        return Lease(
            role[0], role[1], form["RoleSessionName"], int(duration), source, tags, policy, arns, caller=caller
        )

    @staticmethod
    def _tags(form: dict[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        pairs = members(form, "Tags", "Key", "Value")
        if len(pairs) > 50:
            raise invalid(f"{len(pairs)} session tags")
        for pair in pairs:
            key, value = pair["Key"], pair["Value"]
            if not 1 <= len(key) <= 128 or len(value) > 256 or not tag_text(key) or not tag_text(value):
                raise invalid(f"session tag {key!r}={value!r}")
            if key.lower().startswith("aws:") or key.lower() in {known.lower() for known in found}:
                raise Refused("InvalidParameterValue", f"session tag {key!r} is reserved or stands there twice", 400)
            found[key] = value
        number = 1
        while transitive := form.get(f"TransitiveTagKeys.member.{number}"):
            if transitive not in found:
                raise invalid(f"transitive tag {transitive!r} is not a session tag")
            number += 1
        return found

    @staticmethod
    def _policy(form: dict[str, str]) -> dict[str, Any] | None:
        text = form.get("Policy")
        if text is None:
            return None
        try:
            policy = json.loads(text)
        except ValueError:
            raise Refused("MalformedPolicyDocument", "Policy is not JSON", 400) from None
        if not isinstance(policy, dict) or policy.get("Version") != "2012-10-17" or not policy.get("Statement"):
            raise Refused("MalformedPolicyDocument", "Policy has no version 2012-10-17 or no statement", 400)
        statements = policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
        for statement in statements:
            if not isinstance(statement, dict) or statement.get("Effect") not in {"Allow", "Deny"}:
                raise Refused("MalformedPolicyDocument", "a statement without Effect", 400)
            if "Principal" in statement or not ({"Action", "NotAction"} & statement.keys()):
                raise Refused("MalformedPolicyDocument", "a statement with Principal or without Action", 400)
            if not ({"Resource", "NotResource"} & statement.keys()):
                raise Refused("MalformedPolicyDocument", "a statement without Resource", 400)
        return policy


def pinned_out(policy: dict[str, Any] | None, account: str) -> bool:
    """Whether a session policy's account pin keeps a resource of this account out.

    Evaluates denies with StringNotEquals(IfExists), and allows with StringEquals(IfExists), on aws:ResourceAccount; other
    conditions and actions are not looked at.
    """
    if not policy:
        return False
    statements = policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
    allowed, pinned = False, False
    for statement in statements:
        condition = {
            (kind.removesuffix("IfExists"), name.lower()): [value] if isinstance(value, str) else value
            for kind, names in statement.get("Condition", {}).items()
            for name, value in names.items()
        }
        unequal = condition.get(("StringNotEquals", "aws:resourceaccount"))
        equal = condition.get(("StringEquals", "aws:resourceaccount"))
        if statement["Effect"] == "Deny" and unequal is not None and account not in unequal:
            return True
        if statement["Effect"] == "Allow":
            pinned = True
            allowed = allowed or equal is None or account in equal
    return pinned and not allowed
