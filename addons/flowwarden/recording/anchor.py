"""Anchors: checkpoints put where the disk's owner cannot change them, and the receipts for it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ConfigError, StoreError
from . import note

if TYPE_CHECKING:
    from .recorder import Recorder

MOST_RECEIPT = 4096  # characters of a command's output that are kept
SECONDS = 300.0


class Anchor(Protocol):
    """A place for checkpoints. `put` gives a receipt as plain JSON; both wait, and raise StoreError."""

    kind: str

    def put(self, checkpoint: str) -> dict[str, Any]: ...

    def fetch(self, receipt: Mapping[str, Any]) -> str: ...

    def beyond(self, origin: str, size: int) -> str | None:
        """A checkpoint of this log over more records than `size`; None if there is none, or that cannot be asked here."""


class S3Anchor:
    """A bucket with Object Lock, best in another account: each checkpoint is one object in compliance mode."""

    kind = "s3"

    def __init__(
        self, bucket: str, prefix: str = "", *, days: int = 365, client: Any = None, account: str = ""
    ) -> None:
        if client is None:
            import boto3

            client = boto3.client("s3")
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._days = days
        self._owner = {"ExpectedBucketOwner": account} if account else {}

    def put(self, checkpoint: str) -> dict[str, Any]:
        found = note.parse(checkpoint)
        key = f"{self._prefix}{found.origin}/{found.size:020d}-{found.root.hex()[:16]}"
        until = datetime.now(UTC) + timedelta(days=self._days)
        answer = self._call(
            "put_object",
            Key=key,
            Body=checkpoint.encode(),
            ContentType="text/plain; charset=utf-8",
            ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=until,
            ChecksumAlgorithm="SHA256",
        )
        version = answer.get("VersionId")
        if not version:
            raise StoreError(
                f"the bucket {self._bucket} keeps no versions", "An anchor needs a bucket with Object Lock"
            )
        return {
            "bucket": self._bucket,
            "key": key,
            "version": version,
            "locked_until": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def fetch(self, receipt: Mapping[str, Any]) -> str:
        """The checkpoint behind a receipt, if it is still locked."""
        answer = self._call("get_object", Key=str(receipt["key"]), VersionId=str(receipt["version"]))
        if answer.get("ObjectLockMode") != "COMPLIANCE":
            raise StoreError(f"{receipt['key']} is not locked: it vouches for nothing")
        return str(answer["Body"].read(1 << 16).decode("utf-8", "replace"))

    def beyond(self, origin: str, size: int) -> str | None:
        """Versions are asked for, so that neither a delete marker nor a later version hides one."""
        folder = f"{self._prefix}{origin}/"
        asked: dict[str, Any] = {"Prefix": folder, "KeyMarker": f"{folder}{size:020d}~", "MaxKeys": 100}
        for found in self._call("list_object_versions", **asked).get("Versions") or ():
            try:
                return self.fetch({"key": found["Key"], "version": found["VersionId"]})
            except StoreError:
                continue  # what is not locked vouches for nothing
        return None

    def _call(self, name: str, **more: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, name)(Bucket=self._bucket, **self._owner, **more)
        except (BotoCoreError, ClientError, OSError) as error:
            raise StoreError(f"the anchor s3://{self._bucket} does not answer: {error}") from None


class CommandAnchor:
    """A command that is given the checkpoint on standard input and prints a receipt."""

    kind = "command"

    def __init__(self, command: Sequence[str], *, timeout: float = 30.0) -> None:
        if not command:
            raise ConfigError("the anchor's command is empty")
        self._command = list(command)
        self._timeout = timeout

    def put(self, checkpoint: str) -> dict[str, Any]:
        try:
            done = subprocess.run(
                self._command, input=checkpoint.encode(), capture_output=True, timeout=self._timeout, check=True
            )
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode("utf-8", "replace").strip()[-200:]
            raise StoreError(f"the anchor {self._command[0]} failed with {error.returncode}: {said}") from None
        except (OSError, subprocess.SubprocessError) as error:
            raise StoreError(f"the anchor {self._command[0]} failed: {error}") from None
        return {"command": self._command[0], "output": done.stdout.decode("utf-8", "replace")[:MOST_RECEIPT]}

    def fetch(self, receipt: Mapping[str, Any]) -> str:
        raise StoreError("what a command anchored has to be given by --checkpoint")

    def beyond(self, origin: str, size: int) -> str | None:
        return None


class Anchors:
    """Anchors a running recorder's checkpoints: every few minutes, and at once for calls that ask for it."""

    def __init__(self, recorder: Recorder, anchors: Sequence[Anchor], *, every: float = SECONDS) -> None:
        self._recorder = recorder
        self._anchors = list(anchors)
        self._every = every
        self._size = 0
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.problem = ""

    def __bool__(self) -> bool:
        return bool(self._anchors)

    def start(self) -> None:
        """Begins to anchor by the clock."""
        if self._anchors:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="flowwarden-anchors")

    async def stop(self) -> None:
        """Ends, after a last anchor if one can be had."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._try()

    async def cover(self, seq: int) -> None:
        """Returns when an anchor vouches for the record of this seq. StoreError: none could be had; refuse the call.

        Calls that wait at the same time share an anchor.
        """
        if not self._anchors:
            raise StoreError("a rule asks for an anchor, but none is set up", "Set warden_anchor")
        async with self._lock:
            if seq >= self._size:
                await self._put()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self._try()

    async def _try(self) -> None:
        try:
            async with self._lock:
                await self._put()
        except StoreError as error:
            self.problem = str(error)

    async def _put(self) -> None:
        """Signs the log as it stands and takes the checkpoint to every anchor; the receipts become records."""
        text = await self._recorder.checkpoint()
        found = note.parse(text)
        if found.size == self._size:
            return
        for anchor in self._anchors:
            receipt = await asyncio.to_thread(anchor.put, text)
            await self._recorder.append("anchor", anchored(anchor.kind, text, receipt))
        self._size = found.size
        self.problem = ""


def anchored(kind: str, checkpoint: str, receipt: Mapping[str, Any]) -> dict[str, Any]:
    """The `anchor` record of a checkpoint."""
    found = note.parse(checkpoint)
    return {
        "kind": kind,
        "size": found.size,
        "root": found.root.hex(),
        "checkpoint_sha256": sha256(checkpoint.encode()).hexdigest(),
        "receipt": dict(receipt),
    }


def from_option(text: str, *, client: Any = None) -> Anchor | None:
    """An anchor from an option: empty, `s3://bucket/prefix[?account=…&days=…]`, or a JSON list that is a command."""
    text = text.strip()
    if not text:
        return None
    if text.startswith("s3://"):
        return _s3(text, client)
    try:
        command = json.loads(text)
    except ValueError:
        command = None
    if not isinstance(command, list) or not command or not all(isinstance(part, str) for part in command):
        raise ConfigError(
            f"{text!r} is no anchor for warden_anchor or --anchor",
            'Expected s3://bucket/prefix or a command such as ["/usr/bin/anchor"]',
        )
    return CommandAnchor(command)


def _s3(text: str, client: Any) -> S3Anchor:
    from urllib.parse import parse_qs, urlsplit

    parts = urlsplit(text)
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    days = asked.get("days", "365")
    if not parts.netloc or asked.keys() - {"account", "days"} or not days.isdecimal():
        raise ConfigError(f"{text!r} is not an anchor", "Expected s3://bucket/prefix?account=123456789012&days=365")
    return S3Anchor(
        parts.netloc, parts.path.lstrip("/"), days=int(days), client=client, account=asked.get("account", "")
    )


class Outside:
    """What `verify` asks the anchors: the checkpoint behind a record, and whether they know of more than the log has."""

    def __init__(self, anchors: Sequence[Anchor]) -> None:
        self._by_kind = {anchor.kind: anchor for anchor in anchors}

    def fetch(self, record: Mapping[str, Any]) -> str:
        """StoreError if it cannot be had."""
        anchor = self._by_kind.get(str(record.get("kind")))
        if anchor is None:
            raise StoreError(f"no anchor of kind {record.get('kind')} is set up here")
        return anchor.fetch(record["receipt"])

    def beyond(self, origin: str, size: int) -> str | None:
        """A checkpoint over more records than the log has: its end was cut off. StoreError if nobody can say."""
        found = (anchor.beyond(origin, size) for anchor in self._by_kind.values())
        return next((text for text in found if text), None)
