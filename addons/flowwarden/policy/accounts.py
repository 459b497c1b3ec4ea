"""Account pinning: no call names a stranger's account, and S3 calls carry the owner that their buckets must have.

So a legitimate call cannot carry data to a stranger's bucket, role or key, whatever the rules and the real role allow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session

from ..types import Call, Request
from . import sharing
from .params import UNREAD, leaves, select

_ARN = re.compile(r"\barn:aws[a-z-]*:[a-zA-Z0-9-]*:[a-z0-9-]*:([^:/\s\"',]*):")
_ACCOUNT = re.compile(r"\d{12}")
_QUEUE = re.compile(
    r"https?://(?:[a-z0-9.-]*\.)?(?:queue|sqs)[a-z0-9.-]*\.(?:amazonaws\.com|amazonaws\.com\.cn|api\.aws)(?::\d+)?/(\d{12})/"
)
_ACCOUNT_KEY = re.compile(r"(?i)account|owner|registryid|catalogid|principal|userid|grantee|recipient|shared|aclid")
_HOST = re.compile(r"^(\d{12})\.|(?:^|\.)[a-z0-9-]+-(\d{12})\.(?:s3-accesspoint|s3-outposts|s3-object-lambda)\b")
_OWNER_HEADERS = ("x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner", "x-amz-account-id")
_READS = frozenset({"Read", "List"})
_DEEP = 64
# S3 refuses the header on these for directory buckets (API reference of PutBucketPolicy and its like).
_NOT_EXPRESS = re.compile(r"Bucket(Policy|Encryption|LifecycleConfiguration|Lifecycle)$")

AWS = "aws"
"""The name under which `accounts:` lets ARNs of AWS's own account pass (managed policies and the like)."""


def outside(call: Call, request: Request, accounts: frozenset[str]) -> str | None:
    """Which foreign account a call names, as a sentence; None where it names none.

    `accounts` are the session's own and the named exceptions; `aws` among them stands for AWS's own ARNs. A call whose
    parameters were not read is judged by what its raw bytes show, and refused if it is one that shares things outwards.
    """
    if call.operation is None:
        return None
    found = next(_foreign(call, request, accounts), None)
    return f"{found}, which is none of this session's accounts" if found else None


def _foreign(call: Call, request: Request, accounts: frozenset[str]) -> Iterator[str]:
    yield from _in_head(request, accounts)
    for arn in call.resources:
        if arn is not None:
            yield from _in_text(arn, accounts, "the resource")
    name = str(call.operation)
    if call.params is None:
        if name in sharing.NAMED or name in sharing.OR_SERVICE or name in sharing.OWNER_NEEDED:
            yield f"{name} shares things outwards, and its parameters were not read: it may name any account"
        if request.body:
            yield from _in_text(request.body.decode("latin-1"), accounts, "the body")
        return
    assert call.operation is not None
    data = sharing.DATA.get(call.operation.service, frozenset())
    writes = not all(action.levels and action.levels <= _READS for action in call.actions) or not call.actions
    yield from _in_params(call.params, "", accounts, data, writes)
    yield from _shared(name, call.params, accounts)


def _in_head(request: Request, accounts: frozenset[str]) -> Iterator[str]:
    for field in _OWNER_HEADERS:
        for value in request.fields.get(field, ()):
            if value.strip() not in accounts:
                yield f"the header {field} names account {value.strip()!r}"
    if match := _HOST.search(request.host):
        account = match[1] or match[2]
        if account not in accounts:
            yield f"the host {request.host} is of account {account}"


def _in_text(text: str, accounts: frozenset[str], where: str) -> Iterator[str]:
    for match in _ARN.finditer(text):
        account = match[1]
        if account and account not in accounts and (account == AWS or _ACCOUNT.fullmatch(account)):
            yield f"{where} names an ARN of account {account}"
    if "://" in text:
        for match in _QUEUE.finditer(text):
            if match[1] not in accounts:
                yield f"{where} names a queue of account {match[1]}"


def _in_params(
    value: Any, key: str, accounts: frozenset[str], data: frozenset[str], writes: bool, depth: int = 0
) -> Iterator[str]:
    """Every ARN, queue and account id in the parameters, members that hold data left out."""
    if depth > _DEEP:
        yield "the parameters are nested too deeply to be read: they may name any account"
    elif isinstance(value, str):
        where = f"the parameter {key}"
        if len(value) == 12 and writes and _ACCOUNT_KEY.search(key) and _ACCOUNT.fullmatch(value):
            if value not in accounts:
                yield f"{where} names account {value}"
        elif "arn:" in value or "://" in value:
            yield from _in_text(value, accounts, where)
        policy = sharing.policy_of(value)
        for principal in sharing.principals(policy, accounts) if policy else ():
            yield from _stranger(principal, accounts, f"the policy in {key}")
        if policy is None and writes and key.lower().endswith("policy") and value.lstrip().startswith("{"):
            yield f"{where} is a policy that cannot be read: it may name any account"
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in data:
                yield from _in_params(inner, str(name), accounts, data, writes, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _in_params(inner, key, accounts, data, writes, depth + 1)


def _stranger(principal: str, accounts: frozenset[str], where: str) -> Iterator[str]:
    """Says so if a principal, account id, ARN or canonical id is not known to be of one of the accounts."""
    match = _ARN.match(principal + ":") if principal.startswith("arn:") else None
    account = match[1] if match else principal
    if account not in accounts:
        yield f"{where} names {'everyone' if account in ('*', 'all', '') else account!r}"


def _shared(name: str, params: Mapping[str, Any], accounts: frozenset[str]) -> Iterator[str]:
    """What a sharing call names in the parameters that say with whom."""
    for path in sharing.NAMED.get(name, ()):
        for value in select(params, tuple(path.split("."))):
            if value is not UNREAD and str(value) in ("CanonicalUser", "AmazonCustomerByEmail", "Group"):
                continue  # the type of an S3 grantee, beside its id
            yield from _stranger("" if value is UNREAD else str(value), accounts, f"the parameter {path}")
    for path in sharing.OR_SERVICE.get(name, ()):
        for value in select(params, (path,)):
            if not re.fullmatch(r"[a-z0-9.-]+\.amazonaws\.com(\.cn)?", str(value)):
                yield from _stranger(str(value), accounts, f"the parameter {path}")
    if name in sharing.OWNER_NEEDED:
        path, member = sharing.OWNER_NEEDED[name]
        for place in _places(params, tuple(filter(None, path.split(".")))):
            owners = list(leaves(place.get(member)))
            if not owners or not all(str(owner) in accounts for owner in owners):
                yield f"{name} writes to a bucket whose owner has to be named in {member}: it names {owners or 'nobody'}"


def _places(value: Any, path: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        for inner in value:
            yield from _places(inner, path)
    elif isinstance(value, Mapping):
        if not path:
            yield value
        elif path[0] in value:
            yield from _places(value[path[0]], path[1:])


@cache
def _owned() -> tuple[frozenset[str], frozenset[str]]:
    """The S3 operations that take the expected owner of their bucket, and of the bucket they copy from."""
    model = botocore.session.get_session().get_service_model("s3")
    inputs = {name: model.operation_model(name).input_shape for name in model.operation_names}
    members = {name: frozenset(shape.members) if shape else frozenset() for name, shape in inputs.items()}
    return (
        frozenset(name for name, found in members.items() if "ExpectedBucketOwner" in found),
        frozenset(name for name, found in members.items() if "ExpectedSourceBucketOwner" in found),
    )


def amendments(call: Call, request: Request, account: str) -> dict[str, str]:
    """Headers to add before signing: the owner that S3 has to find for each bucket of the call.

    A header that the agent itself sent stays: `outside` has refused accounts that are not the session's or excepted.
    """
    if call.operation is None or call.operation.service != "s3" or not account:
        return {}
    name = call.operation.name
    targets, sources = _owned()
    bucket = str((call.params or {}).get("Bucket", ""))
    if bucket.endswith("--x-s3") and _NOT_EXPRESS.search(name):
        return {}
    wanted = {_OWNER_HEADERS[0]: name in targets, _OWNER_HEADERS[1]: name in sources}
    return {field: account for field, takes in wanted.items() if takes and field not in request.fields}
