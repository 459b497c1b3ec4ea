"""What is particular about S3's paths and queries: buckets in hosts, exact sub-resources, headers lifted into the query."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .hosts import Host
from .refuse import refusal

if TYPE_CHECKING:
    from .detect import Found
    from .services import Op

SIGNATURE = frozenset(
    {
        "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders", "x-amz-signature",
        "x-amz-security-token", "x-amz-s3session-token", "x-amz-content-sha256", "x-amz-region-set",
    }
)  # fmt: skip

_PLACE = "."  # stands for the bucket that the host names; no bucket is called so


def path(sent: str, host: Host) -> str:
    """The path as the model writes it, `/{Bucket}/{Key+}`, wherever the bucket stands."""
    if host.kind == "object-lambda-route":
        return sent
    if "Bucket" in host.params:
        return f"/{_PLACE}" if sent == "/" else f"/{_PLACE}{sent}"
    if sent.startswith("//"):
        raise refusal("request", "rest-xml", "The path has an empty bucket")
    head, slash, key = sent[1:].partition("/")
    return f"/{head}" if head and slash and not key else sent


def lift(found: Found) -> dict[str, list[str]]:
    """The query without `x-amz-…` headers that presigning moved into it. A Refusal where one is there in both places."""
    query = found.query
    if not any(name[:6].lower() == "x-amz-" for name in query):
        return query
    plain = {}
    fields = dict(found.fields)
    for name, values in query.items():
        low = name.lower()
        if not low.startswith("x-amz-") or low in SIGNATURE:
            plain[name] = values
            continue
        if low in fields or len(values) != 1:
            raise refusal("request", "rest-xml", "A header is there twice, or in the query too")
        fields[low] = values
        found.lifted.append(low)
    found.fields = fields
    return plain


def known_query(op: Op, query: dict[str, list[str]], found: Found) -> bool:
    """Whether the operation knows each name in the query. `x-id` is what some SDKs add: the operation's own name."""
    for name, values in query.items():
        if name.lower() in SIGNATURE:
            continue
        if len(values) > 1:
            raise refusal("request", "rest-xml", "A query parameter is there twice")
        if name == "x-id" and values[0] == op.operation.name:
            continue
        if name not in op.known_queries and (name not in op.literals or values[0] not in {"", op.literals[name]}):
            return False
    lifted = found.lifted
    return all(name in op.headers or name.startswith(("x-amz-meta-", "x-amz-checksum-")) for name in lifted)
