"""Refusals of this station, with the error code that each protocol itself uses for the same complaint."""

from __future__ import annotations

from ..errors import Refusal

STATION = "recognise"

# complaint → code, by protocol. Names: the common errors of each service's API reference, and the restJson1, awsJson1,
# awsQuery, ec2Query, restXml and rpcv2Cbor protocol pages of Smithy (https://smithy.io/2.0/aws/protocols/).
_CODES: dict[str, dict[str, str]] = {
    "operation": {
        "query": "InvalidAction",
        "ec2": "InvalidAction",
        "json": "UnknownOperationException",
        "rest-json": "UnknownOperationException",
        "rest-xml": "MethodNotAllowed",
        "smithy-rpc-v2-cbor": "UnknownOperationException",
    },
    "body": {
        "query": "MalformedInput",
        "ec2": "MalformedInput",
        "json": "SerializationException",
        "rest-json": "SerializationException",
        "rest-xml": "MalformedXML",
        "smithy-rpc-v2-cbor": "SerializationException",
    },
    "value": {
        "query": "ValidationError",
        "ec2": "InvalidParameterValue",
        "json": "ValidationException",
        "rest-json": "ValidationException",
        "rest-xml": "InvalidArgument",
        "smithy-rpc-v2-cbor": "ValidationException",
    },
    "request": {
        "query": "ValidationError",
        "ec2": "InvalidParameterCombination",
        "json": "ValidationException",
        "rest-json": "ValidationException",
        "rest-xml": "InvalidRequest",
        "smithy-rpc-v2-cbor": "ValidationException",
    },
    "scope": {
        "query": "SignatureDoesNotMatch",
        "ec2": "SignatureDoesNotMatch",
        "json": "InvalidSignatureException",
        "rest-json": "InvalidSignatureException",
        "rest-xml": "SignatureDoesNotMatch",
        "smithy-rpc-v2-cbor": "InvalidSignatureException",
    },
    "signature": dict.fromkeys(
        ("query", "ec2", "json", "rest-json", "rest-xml", "smithy-rpc-v2-cbor"), "IncompleteSignature"
    ),
}
_STATUS = {"scope": 403}


def refusal(complaint: str, protocol: str, message: str) -> Refusal:
    """A Refusal: `complaint` is operation, body, value, request, scope or signature; `protocol` may still be unknown."""
    code = _CODES[complaint].get(protocol) or _CODES[complaint]["query"]
    return Refusal(message, status=_STATUS.get(complaint, 400), code=code, station=STATION)
