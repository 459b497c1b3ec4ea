"""The hosts of S3 and S3 Control, whose names carry the bucket, access point, account or Outpost.

Forms: https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html, .../using-access-points.html,
.../MultiRegionAccessPointRequests.html, .../S3onOutposts.html, .../s3-express-Endpoints.html, .../privatelink-interface-endpoints.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_R = r"(?P<region>[a-z]{2,5}(?:-[a-z]+)+-\d+)"
_B = r"(?P<bucket>[a-z0-9][a-z0-9._-]*)"
_NAME = r"(?P<name>[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)-(?P<account>\d{12})"
_DUAL = r"(?:-fips)?(?:\.dualstack)?"

# kind, pattern of what stands before the DNS suffix. The first match wins.
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("website", rf"(?:.+\.)?s3-website[.-]{_R}"),
        ("control", rf"(?:(?P<account>\d{{12}})\.)?s3-control{_DUAL}\.{_R}"),
        ("outposts-control", rf"(?:(?P<account>\d{{12}})\.)?s3-outposts{_DUAL}\.{_R}"),
        ("accesspoint", rf"{_NAME}\.s3-accesspoint{_DUAL}\.{_R}"),
        ("mrap", r"(?P<name>[a-z0-9-]+(?:\.mrap)?)\.accesspoint\.s3-global"),
        ("outposts", rf"{_NAME}\.(?P<outpost>op-[a-z0-9]+)\.s3-outposts{_DUAL}\.{_R}"),
        ("outposts", rf"{_B}\.(?:ec2|op-[a-z0-9]+)\.s3-outposts{_DUAL}\.{_R}"),
        ("object-lambda", rf"{_NAME}\.s3-object-lambda{_DUAL}\.{_R}"),
        ("object-lambda-route", rf"(?:(?P<route>[a-z0-9-]+)\.)?s3-object-lambda{_DUAL}\.{_R}"),
        ("express-control", rf"s3express-control{_DUAL}\.{_R}"),
        (
            "express",
            rf"(?:(?P<bucket>[a-z0-9-]+--[a-z0-9-]+--x(?:a-)?-?s3)\.)?s3express(?:-fips)?-[a-z0-9-]+(?:\.dualstack)?\.{_R}",
        ),
        ("accelerate", rf"{_B}\.s3-accelerate(?:\.dualstack)?"),
        ("s3", rf"(?:{_B}\.)?s3{_DUAL}\.{_R}"),
        ("s3", rf"(?:{_B}\.)?s3-(?:fips-)?{_R}"),
        ("global", rf"(?:{_B}\.)?s3(?:-external-1)?"),
    )
)
_SIGNING = {
    "control": ("s3",),
    "outposts-control": ("s3-outposts",),
    "outposts": ("s3-outposts",),
    "object-lambda": ("s3-object-lambda",),
    "object-lambda-route": ("s3-object-lambda",),
    "express-control": ("s3express",),
    "express": ("s3express",),
}
_SERVICES = {
    "control": ("s3control",),
    "outposts-control": ("s3control", "s3outposts"),
    "express-control": ("s3", "s3control"),
}


@dataclass(frozen=True, slots=True)
class S3Host:
    """What an S3 host says: kind of endpoint, region, service, signing names, and the parameters in its name."""

    kind: str
    region: str
    service: tuple[str, ...]
    signing: tuple[str, ...]
    params: dict[str, str] = field(default_factory=dict)


def parse(rest: str) -> S3Host | None:
    """What stands before the DNS suffix, read as an S3 host; None where it is none."""
    if "s3" not in rest:
        return None
    for kind, pattern in _FORMS:
        found = pattern.fullmatch(rest)
        if found:
            return _host(kind, {key: value for key, value in found.groupdict().items() if value})
    return None


def _host(kind: str, parts: dict[str, str]) -> S3Host | None:
    params: dict[str, str] = {}
    bucket = parts.get("bucket", "")
    if ".." in bucket or ".-" in bucket or "-." in bucket:
        return None
    region = parts.get("region", "")
    if kind in {"control", "outposts-control"}:
        params = {"AccountId": parts["account"]} if "account" in parts else {}
    elif kind == "object-lambda-route":
        params = {"RequestRoute": parts["route"]} if "route" in parts else {}
    elif "name" in parts:
        params = {"Bucket": _arn(kind, parts)}
    elif bucket:
        params = {"Bucket": bucket}
    service = _SERVICES.get(kind, ("s3",))
    return S3Host(kind, region, service, _SIGNING.get(kind, ("s3",)), params)


def _arn(kind: str, parts: dict[str, str]) -> str:
    """The ARN that a caller of boto3 gives as Bucket for this host. `{partition}` is left to fill.

    A multi-region access point's host does not say whose it is, so that its account stays empty.
    """
    region, account, name = parts.get("region", ""), parts.get("account", ""), parts["name"]
    if kind == "mrap":
        return f"arn:{{partition}}:s3::{account}:accesspoint/{name}"
    if kind == "outposts":
        return f"arn:{{partition}}:s3-outposts:{region}:{account}:outpost/{parts['outpost']}/accesspoint/{name}"
    service = "s3-object-lambda" if kind == "object-lambda" else "s3"
    return f"arn:{{partition}}:{service}:{region}:{account}:accesspoint/{name}"


def vpc_endpoint(rest: str) -> str | None:
    """`vpce-1a2b-3c4d.ec2.eu-west-1.vpce` → `ec2.eu-west-1`, and S3's `bucket.`, `accesspoint.`, `control.` forms; else None.

    Endpoint services that customers offer (`vpce-svc-…`) are no AWS service.
    """
    found = _VPCE.fullmatch(rest)
    if not found:
        return None
    front, service = found["front"] or "", found["service"]
    if service.startswith("vpce-svc-"):
        return None
    if not service.startswith("s3."):
        return None if front else service
    head, _, kind = front.rpartition(".")
    forms = {
        "bucket": service,
        "accesspoint": service.replace("s3.", "s3-accesspoint.", 1),
        "control": service.replace("s3.", "s3-control.", 1),
    }
    if kind not in forms:
        return None
    return f"{head}.{forms[kind]}" if head else forms[kind]


_VPCE = re.compile(r"(?:(?P<front>.+)\.)?vpce-[0-9a-f]+-[0-9a-z]+(?:-[a-z0-9-]+)?\.(?P<service>.+)\.vpce")
