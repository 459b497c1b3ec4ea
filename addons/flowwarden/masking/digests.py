"""Digests that stand in an answer's own body: SQS's MD5OfBody and MD5OfMessageAttributes, computed again where masked.

The SDKs of Java, JavaScript, Ruby and .NET refuse a message whose digests do not fit.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from ..types import Call
from . import jsontree
from .jsonmask import Reading
from .jsontree import Node

Attribute = tuple[str, str, bytes, bool]
"""(name, data type, value, whether the value is binary)."""


def concerns(call: Call | None) -> bool:
    """Whether a call's answer has such digests."""
    if call is None or call.operation is None:
        return False
    return call.operation.service == "sqs" and call.operation.name == "ReceiveMessage"


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def of_attributes(attributes: Iterable[Attribute]) -> str:
    """The digest of message attributes: sorted by name, each part with its length in four bytes, a type byte before values."""
    packed = b""
    for name, kind, value, binary in sorted(attributes):
        for part in (name.encode(), kind.encode()):
            packed += len(part).to_bytes(4, "big") + part
        packed += (b"\x02" if binary else b"\x01") + len(value).to_bytes(4, "big") + value
    return _md5(packed)


def in_json(root: Node, reading: Reading) -> None:
    """Writes the digests of the messages of a JSON answer that were masked."""
    messages = root.get("Messages")
    for message in messages.nodes() if messages is not None else ():
        body, digest = message.get("Body"), message.get("MD5OfBody")
        if body is not None and digest is not None and body.start in reading.changed_texts:
            new = _md5(reading.changed_texts[body.start].encode("utf-8", "surrogatepass"))
            reading.edits.replace(digest.start, digest.end, jsontree.quoted(new))
        _json_attributes(message, reading)


def _json_attributes(message: Node, reading: Reading) -> None:
    attributes, digest = message.get("MessageAttributes"), message.get("MD5OfMessageAttributes")
    if attributes is None or digest is None:
        return
    changed = False
    found: list[Attribute] = []
    for name, attribute in attributes.items:
        value = attribute.get("StringValue", "BinaryValue")
        if value is None:
            return
        text = reading.changed_texts.get(value.start, value.text)
        changed = changed or value.start in reading.changed_texts
        binary = attribute.get("BinaryValue") is value
        try:
            data = base64.b64decode(text) if binary else text.encode("utf-8", "surrogatepass")
        except binascii.Error:
            return
        found.append((name, attribute.string("DataType") or "", data, binary))
    if changed:
        reading.edits.replace(digest.start, digest.end, jsontree.quoted(of_attributes(found)))


_MESSAGE = re.compile(rb"<Message>.*?</Message>", re.S)
_MD5_BODY = re.compile(rb"(<MD5OfBody>)[^<]*(</MD5OfBody>)|(<MD5OfMessageBody>)[^<]*(</MD5OfMessageBody>)")
_MD5_ATTRIBUTES = re.compile(rb"(<MD5OfMessageAttributes>)[^<]*(</MD5OfMessageAttributes>)")


def in_xml(text: bytes) -> bytes:
    """A masked XML answer (query protocol) with the digests of its messages computed again."""
    return _MESSAGE.sub(lambda match: _xml_message(match.group()), text)


def _xml_message(text: bytes) -> bytes:
    message = ElementTree.fromstring(text)  # noqa: S314
    body = message.findtext("Body")
    if body is not None:
        digest = escape(_md5(body.encode("utf-8", "surrogatepass"))).encode()
        text = _MD5_BODY.sub(lambda m: (m.group(1) or m.group(3)) + digest + (m.group(2) or m.group(4)), text)
    found: list[Attribute] = []
    for attribute in message.findall("MessageAttribute"):
        value, binary = attribute.findtext("Value/StringValue"), attribute.findtext("Value/BinaryValue")
        data = base64.b64decode(binary) if binary is not None else (value or "").encode()
        found.append(
            (attribute.findtext("Name") or "", attribute.findtext("Value/DataType") or "", data, binary is not None)
        )
    if found:
        digest = of_attributes(found).encode()
        text = _MD5_ATTRIBUTES.sub(lambda m: m.group(1) + digest + m.group(2), text)
    return text
