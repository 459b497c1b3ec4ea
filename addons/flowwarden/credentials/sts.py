"""Real credentials from AWS: boto3's chain, then AssumeRole for each role of a chain. Blocking; the vault calls it in a
thread. Every failure is a Refusal that says what to do: 503 where trying again may help, 403 where it will not."""

from __future__ import annotations

import logging
import secrets
import string
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import Refusal
from ..types import Credentials, Session
from . import bounds, names
from .bounds import refuse
from .denies import Denies
from .rules import GATEWAY, SHORTEST, CredentialRule

ClientFactory = Callable[[str, str, Credentials | None, str | None], Any]
"""(profile or "gateway", region, credentials or None for the profile's own, endpoint URL) → a boto3 STS client."""

CONNECT_TIMEOUT, READ_TIMEOUT = 3, 6  # seconds
_REGIONS = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}
_FINAL = frozenset({"AccessDenied", "PackedPolicyTooLarge", "MalformedPolicyDocument", "ValidationError"})
_OWN_LIFE = 900.0  # seconds after which a source's own credentials are read again


@dataclass(frozen=True, slots=True)
class Lent:
    """What a source gave: credentials, the account they are of, and the role, if it is one."""

    credentials: Credentials
    account: str
    role_arn: str = ""
    denies_left_out: int = 0  # by which the session policy is wider than the rules, which still decide


class Source:
    """Where a gateway's real credentials come from."""

    def __init__(self, client_factory: ClientFactory | None = None) -> None:
        # botocore logs answers, credentials included, at DEBUG; and mitmproxy sets the root logger to that.
        for name in ("botocore", "boto3", "urllib3"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._lock = threading.RLock()  # a boto3 session is not for two threads, its clients are
        self._sessions: dict[str, Any] = {}
        self._clients: dict[tuple[str, str], Any] = {}
        self._make = client_factory or self._boto_client

    def obtain(self, rule: CredentialRule, session: Session, denies: Callable[[], Denies]) -> Lent:
        """Credentials for a session under a rule. Raises Refusal and nothing else."""
        try:
            if not rule.assume_role:
                return self._own(rule)
            return self._assume(rule, session, denies())
        except Refusal:
            raise
        except Exception as error:
            raise explained(error, rule) from None

    def secrets(self) -> list[str]:
        """The secret strings of the sources that were used so far."""
        found: list[str] = []
        for boto_session in list(self._sessions.values()):
            frozen = boto_session.get_credentials()
            if frozen is not None:
                frozen = frozen.get_frozen_credentials()
                found += [frozen.secret_key, frozen.token or ""]
        return [text for text in found if text]

    def _assume(self, rule: CredentialRule, session: Session, denies: Denies) -> Lent:
        policy, left_out = bounds.session_policy(rule, denies)  # before STS is asked at all
        region = rule.region or _REGIONS.get(rule.partition, "us-east-1")
        client = self._client(rule.source, region)
        for role in rule.assume_role[:-1]:
            answer = client.assume_role(**_request(rule, role, session))
            with self._lock:
                client = self._make(rule.source, region, _credentials(answer), None)
        bound: dict[str, Any] = {"PolicyArns": [{"arn": arn} for arn in rule.policy_arns]} if rule.policy_arns else {}
        role = rule.assume_role[-1]
        request = _request(rule, role, session) | bound
        try:
            answer = client.assume_role(**request, Policy=policy)
        except client.exceptions.PackedPolicyTooLargeException:
            # STS packs policy and tags in a way that nobody can compute before: without what need not be in it.
            policy, left_out = bounds.session_policy(rule, denies, spare=False)
            answer = client.assume_role(**request, Policy=policy)
        return Lent(_credentials(answer), role.split(":")[4], role, left_out)

    def _own(self, rule: CredentialRule) -> Lent:
        """The source's credentials as they are: no session policy, no tags. The account has to be one of the rule's."""
        identity = self._client(rule.source, rule.region).get_caller_identity()
        account = str(identity["Account"])
        if account not in rule.accounts:
            raise refuse(
                f"the credentials of source {rule.source!r} are of account {account}, which is not in `accounts`"
            )
        with self._lock:
            found = self._session(rule.source).get_credentials()
        frozen = found.get_frozen_credentials()
        ends = getattr(found, "_expiry_time", None)
        expires = time.time() + _OWN_LIFE
        if ends is not None:
            expires = min(expires, ends.timestamp())
        return Lent(Credentials(frozen.access_key, frozen.secret_key, frozen.token or "", expires), account)

    def _client(self, profile: str, region: str) -> Any:
        with self._lock:
            client = self._clients.get((profile, region))
            if client is None:
                client = self._clients[profile, region] = self._make(profile, region, None, None)
            return client

    def _session(self, profile: str) -> Any:
        import boto3

        found = self._sessions.get(profile)
        if found is None:
            found = self._sessions[profile] = boto3.Session(profile_name=None if profile == GATEWAY else profile)
        return found

    def _boto_client(self, profile: str, region: str, credentials: Credentials | None, endpoint: str | None) -> Any:
        boto_session = self._session(profile)
        region = region or boto_session.region_name or "us-east-1"
        return client(boto_session, region, credentials, endpoint)


class SandboxSource(Source):
    """The sandbox's own STS with random keys: real sources are never asked, and their credentials never read."""

    def __init__(self, url: str, client_factory: ClientFactory | None = None) -> None:
        super().__init__(client_factory or self._sandbox_client)
        self._url = url
        self._base = random_credentials("AKIA")

    def secrets(self) -> list[str]:
        return [self._base.secret_access_key]

    def _own(self, rule: CredentialRule) -> Lent:
        made = random_credentials("ASIA")
        expires = time.time() + _OWN_LIFE
        return Lent(Credentials(made.access_key_id, made.secret_access_key, made.session_token, expires), rule.account)

    def _sandbox_client(self, profile: str, region: str, credentials: Credentials | None, endpoint: str | None) -> Any:
        import botocore.session

        boto_session = botocore.session.Session(session_vars={"profile": (None, None, None, None)})  # not AWS_PROFILE
        return client(boto_session, region or "us-east-1", credentials or self._base, self._url)


def client(boto_session: Any, region: str, credentials: Credentials | None, endpoint: str | None) -> Any:
    """A boto3 or botocore STS client that gives up soon."""
    from botocore.config import Config

    keys: dict[str, str] = {}
    if credentials is not None:
        keys = {
            "aws_access_key_id": credentials.access_key_id,
            "aws_secret_access_key": credentials.secret_access_key,
        }
        if credentials.session_token:
            keys["aws_session_token"] = credentials.session_token
    config = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"total_max_attempts": 2, "mode": "standard"},
    )
    make = getattr(boto_session, "create_client", None) or boto_session.client
    return make("sts", region_name=region, endpoint_url=endpoint, config=config, **keys)


def random_credentials(prefix: str) -> Credentials:
    """Credentials of AWS's shape that nothing but a sandbox takes."""
    key_id = prefix + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(16))
    token = secrets.token_urlsafe(150) if prefix == "ASIA" else ""
    return Credentials(key_id, secrets.token_urlsafe(30), token)


def explained(error: Exception, rule: CredentialRule) -> Refusal:
    """What a failure of boto3 means for the agent's call."""
    from botocore.exceptions import ClientError

    role = rule.assume_role[-1] if rule.assume_role else f"source {rule.source!r}"
    if not isinstance(error, ClientError):
        what = str(error) if type(error).__module__.startswith("botocore") else type(error).__name__
        return refuse(f"no credentials for {role}: STS cannot be asked ({what})", "ServiceUnavailable", 503)
    problem = error.response.get("Error", {})
    code, message = str(problem.get("Code", "")), str(problem.get("Message", ""))
    if code == "AccessDenied":
        return refuse(
            f"STS refused {role}: {message}. The role's trust policy has to allow sts:AssumeRole, sts:TagSession and "
            "sts:SetSourceIdentity to the gateway's own identity"
        )
    if code in _FINAL:
        return refuse(f"STS refused {role}: {code}: {message}")
    return refuse(f"no credentials for {role}: STS answered {code}: {message}", "ServiceUnavailable", 503)


def _request(rule: CredentialRule, role: str, session: Session) -> dict[str, Any]:
    subject = names.session_name(session.principal.subject)
    request: dict[str, Any] = {
        "RoleArn": role,
        "RoleSessionName": subject,
        # A role in the middle of a chain is used at once.
        "DurationSeconds": int(rule.duration if role == rule.assume_role[-1] else SHORTEST),
    }
    found = bounds.tags(rule, session)
    if found:
        request["Tags"] = found
    if role == rule.assume_role[0]:
        request["SourceIdentity"] = subject  # it stays along the chain, and may not be set again
        if rule.external_id:
            request["ExternalId"] = rule.external_id
    return request


def _credentials(answer: Any) -> Credentials:
    found = answer["Credentials"]
    return Credentials(
        found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"], found["Expiration"].timestamp()
    )
