"""ARNs of S3's buckets, objects and access points, from Bucket, Key and CopySource.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html#amazons3-resources-for-iam-policies
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from .resources import Context
from .resources import fill as _fill

_SOURCE = {"s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectTagging"}
_COPIES = "CopySource"


def fill_bucket(bucket: str, context: Context) -> str | None:
    """A bucket's or access point's ARN; None where nothing says whose it is (multi-region access points)."""
    if bucket.startswith("arn:"):
        return bucket if bucket.split(":")[4:5] != [""] else None
    if bucket.endswith("--x-s3"):
        known = context.region and context.account
        return (
            f"arn:{context.partition}:s3express:{context.region}:{context.account}:bucket/{bucket}" if known else None
        )
    return f"arn:{context.partition}:s3:::{bucket}"


def fill(action: str, formats: list[tuple[str, bool]], params: Mapping[str, Any], context: Context) -> list[str | None]:
    """The ARNs that one S3 action is about."""
    if not formats:
        return ["*"]
    if _COPIES in params and action in _SOURCE:
        return [_source(str(params[_COPIES]), context)]
    bucket = params.get("Bucket")
    if not isinstance(bucket, str) or not bucket:
        return _fill(formats, params, context)
    base = fill_bucket(bucket, context)
    if base is None:
        return [None]
    if not any("${ObjectName}" in arn or "/object/" in arn for arn, _ in formats):
        return [base]
    keys = _keys(params)
    return [_object(base, key) for key in keys] if keys else [base if action.startswith("s3express:") else None]


def _keys(params: Mapping[str, Any]) -> list[str]:
    if isinstance(params.get("Key"), str):
        return [params["Key"]]
    delete = params.get("Delete")
    objects = delete.get("Objects") if isinstance(delete, Mapping) else None
    return [item["Key"] for item in objects or () if isinstance(item, Mapping) and isinstance(item.get("Key"), str)]


def _object(base: str, key: str) -> str:
    if "accesspoint/" in base:
        return f"{base}/object/{key}"
    return base if ":s3express:" in base else f"{base}/{key}"


def _source(source: str, context: Context) -> str | None:
    """`bucket/key?versionId=…` or an access point's ARN with `/object/key`, URL-encoded or not."""
    text = unquote(source.partition("?versionId=")[0]).lstrip("/")
    if text.startswith("arn:"):
        return text
    bucket, slash, key = text.partition("/")
    base = fill_bucket(bucket, context) if bucket and slash and key else None
    return _object(base, key) if base else None
