"""Presigned URLs that AWS itself put into an answer: they pass as they are, in the session that got them.

Lambda's `Code.Location` and the layers of ECR are signed with keys of AWS's own, which no rule of the gateway can check.
Any other request that is signed with a foreign key is refused. Only the members that AWS fills count: whatever an agent
can write somewhere and read again (an object, an item, a description) would else be a way out to a stranger's bucket.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from ..recognition import s3hosts
from ..types import Operation, Request

MOST = 4096  # URLs of one session; the oldest go first
_MARK = "X-Amz-Signature="
_URL = re.compile(r"https://[A-Za-z0-9.-]+(?::443)?/[!-~]*")
_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_MEMBERS: dict[str, tuple[str, ...]] = {
    "lambda:GetFunction": ("Code.Location",),
    "lambda:GetLayerVersion": ("Content.Location",),
    "lambda:GetLayerVersionByArn": ("Content.Location",),
    "lambda:PublishLayerVersion": ("Content.Location",),
    "ecr:GetDownloadUrlForLayer": ("downloadUrl",),
    "ssm:GetDeployablePatchSnapshotForInstance": ("SnapshotDownloadUrl",),
    "transcribe:GetTranscriptionJob": (
        "TranscriptionJob.Transcript.TranscriptFileUri",
        "TranscriptionJob.Transcript.RedactedTranscriptFileUri",
    ),
    "lexv2-models:DescribeExport": ("downloadUrl",),
    "lex-models:GetExport": ("url",),
    "devicefarm:ListArtifacts": ("artifacts.*.url",),
    "artifact:GetReport": ("documentPresignedUrl",),
}
"""Operations whose answers hold presigned URLs of AWS's own, and where; all speak JSON."""


class IssuedUrls:
    """Digests of the presigned URLs of each session's answers.

    `is_live` says whether a session's end is still to come, which will clear what is kept for it.
    """

    def __init__(self, is_live: Callable[[str], bool]) -> None:
        self._is_live = is_live
        self._by_session: dict[str, OrderedDict[bytes, None]] = {}

    def note(self, session_id: str, operation: Operation, body: bytes) -> int:
        """Remembers the presigned S3 URLs of an answer (decoded, before it is masked); says how many."""
        paths = _MEMBERS.get(str(operation))
        if paths is None or not self._is_live(session_id):
            return 0
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return 0
        found = [digest for path in paths for url in _at(document, path.split(".")) if (digest := _digest_of(url))]
        if found:
            known = self._by_session.setdefault(session_id, OrderedDict())
            for digest in found:
                known[digest] = None
            while len(known) > MOST:
                known.popitem(last=False)
        return len(found)

    def allows(self, session_id: str, request: Request) -> bool:
        """Whether a request fetches exactly such a URL: GET or HEAD, no header authentication, nothing changed."""
        known = self._by_session.get(session_id)
        if known is None or request.method not in {"GET", "HEAD"} or request.scheme != "https" or request.port != 443:
            return False
        if "authorization" in request.fields or any(name.startswith("x-amz-") for name in request.fields):
            return False
        return _digest(request.host, request.target) in known

    def forget(self, session_id: str) -> None:
        """Drops what is known of a session that has ended."""
        self._by_session.pop(session_id, None)


def _at(value: Any, path: list[str]) -> Iterator[str]:
    """The texts at a path of member names, `*` for each of a list."""
    if not path:
        if isinstance(value, str):
            yield value
    elif path[0] == "*" and isinstance(value, list):
        for inner in value:
            yield from _at(inner, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])


def _digest_of(url: str) -> bytes | None:
    """The digest of a presigned URL of S3; None for any other."""
    if _MARK not in url or not _URL.fullmatch(url):
        return None
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    domain = next((domain for domain in _DOMAINS if host.endswith(domain)), "")
    found = s3hosts.parse(host.removesuffix(domain)) if domain else None
    if found is None or found.kind not in ("s3", "global"):
        return None
    return _digest(host, f"{parts.path}?{parts.query}")


def _digest(host: str, target: str) -> bytes:
    return sha256(f"{host}\n{target}".encode()).digest()
