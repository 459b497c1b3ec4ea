"""The honest test: botocore's own client serialises and signs a request for every operation of every service, in every
protocol that the service lists, with the required parameters only and with all of them; the recogniser has to name service
and operation, and to read the parameters back.
"""

from __future__ import annotations

from typing import Any

import pytest
from recognition_requests import ACCOUNT, Sender, operations, parameters

from flowwarden.recognition import models
from flowwarden.recognition.recogniser import Recogniser

# Services that share host, path or action, and IAM prefix: AWS itself cannot tell their calls apart, and need not.
SHARED = (
    {"rds", "neptune", "docdb"},  # one endpoint and one version; IAM knows rds:… only
    {"greengrass", "greengrassv2"},  # service roles and tags have the same paths in both
    {"lambda", "lambda-microvms"},  # tags have the same paths in both
    {"signer", "signer-data"},  # one operation, moved to a client of its own
    {"sms-voice", "pinpoint-sms-voice"},  # one API under two names
    {"wisdom", "qconnect"},  # Amazon Q in Connect is Wisdom renamed
)

# Operations that are the same request as another one of their service.
TWINS = {
    "s3:GetBucketLifecycle": "s3:GetBucketLifecycleConfiguration",  # deprecated, the same `GET ?lifecycle`
    "s3:PutBucketLifecycle": "s3:PutBucketLifecycleConfiguration",  # deprecated, the same `PUT ?lifecycle`
    "s3:GetBucketNotification": "s3:GetBucketNotificationConfiguration",  # deprecated, the same `GET ?notification`
    "s3:PutBucketNotification": "s3:PutBucketNotificationConfiguration",  # deprecated, the same `PUT ?notification`
}

# What botocore's handlers add to a request, beside what the caller gave: seen in it, and so rightly among the parameters.
ADDED = {
    "ChecksumAlgorithm", "ChecksumCRC32", "ChecksumMode", "ContentMD5", "EncodingType", "PresignedUrl", "PreSignedUrl",
    "DestinationRegion", "accepts", "parameters", "contentType", "ContentType", "checksum", "accountId", "CopySourceSSECustomerKeyMD5",
    "SSECustomerKeyMD5", "acceptEncoding", "jobParameters", "policy", "searchCriteria", "Body", "ContentEncoding", "ContentLength", "TransferEncoding",
}  # fmt: skip

NOT_SENT = {"SourceRegion"}  # botocore signs a URL with it and keeps it to itself

TRICKY = 'a b:+&=?%,"x;~'  # every character that some protocol encodes, quotes or splits at

# Timestream's clients first ask where to call; they are told one of its cells.
CELLS = {
    "timestream-query": "https://query-cell1.timestream.us-east-1.amazonaws.com",
    "timestream-write": "https://ingest-cell1.timestream.us-east-1.amazonaws.com",
}


@pytest.fixture(scope="module")
def sender() -> Sender:
    return Sender()


def listed_protocols(service: str) -> list[str]:
    """What to ask botocore for: every protocol of a service that lists several, else its only one."""
    found = models.load(service, "service-2")["metadata"].get("protocols") or []
    return found if len(found) > 1 else [""]


def same(recogniser: Recogniser, service: str, name: str, call: Any) -> bool:
    """Whether the recogniser's answer is right: the same operation, or one that differs in nothing that IAM knows."""
    answer = str(call.operation)
    if answer == f"{service}:{name}" or TWINS.get(f"{service}:{name}") == answer:
        return True
    shared = any({service, call.operation.service} <= group for group in SHARED) if call.operation else False
    own = recogniser.service(service).op(name)
    return shared and own is not None and call.operation.name == name and set(own.actions) <= set(call.actions)


def plain(value: Any, drop_empty: bool) -> Any:
    """Parameters in a form that compares: the query protocols cannot say that a structure is there but empty."""
    if isinstance(value, dict):
        found = {key: plain(item, drop_empty) for key, item in value.items()}
        return {key: item for key, item in found.items() if not (drop_empty and item in ({}, []))}
    if isinstance(value, list | tuple):
        items = [plain(item, drop_empty) for item in value]
        return [item for item in items if not (drop_empty and item in ({}, []))]
    return bytes(value) if isinstance(value, bytearray) else value


def differing(given: dict[str, Any], read: dict[str, Any], streaming: set[str], form: bool) -> list[str]:
    """The members that were not read back as they were given."""
    wanted = plain({key: value for key, value in given.items() if key not in streaming | NOT_SENT}, form)
    found = plain(read, form)
    extra = [key for key, value in found.items() if key not in wanted and key not in ADDED | NOT_SENT and value != {}]
    if isinstance(found.get("parameters"), dict):
        found["parameters"].pop("mode", None)  # botocore adds `mode=import` to API Gateway's imports
    return extra + [
        key for key, value in wanted.items() if found.get(key) != value and not (form and value in ({}, []))
    ]


def streamed(model: Any) -> set[str]:
    """The member that is the body itself and streams."""
    shape = model.input_shape
    payload = shape.serialization.get("payload") if shape is not None else None
    if payload is None:
        return set()
    member = shape.members[payload]
    return {payload} if member.serialization.get("streaming") or member.serialization.get("eventstream") else set()


@pytest.mark.parametrize("service", models.service_names())
def test_every_operation_is_recognised_and_read_back(service: str, sender: Sender, recogniser: Recogniser) -> None:
    """No operation of any service is taken for another, and no parameter is lost."""
    wrong: list[str] = []
    for protocol in listed_protocols(service):
        client = sender.client(service, protocol, endpoint_url=CELLS.get(service))
        for model in operations(client):
            for everything in (False, True):
                given = parameters(model, everything, TRICKY if everything else "a-value1")
                request = sender.send(client, model.name, given)
                call = recogniser.recognise(request, account=ACCOUNT)
                head = recogniser.head(request)
                if not same(recogniser, service, model.name, call):
                    wrong.append(
                        f"{model.name} ({protocol}) was taken for {call.operation}: {request.method} {request.target}"
                    )
                    continue
                if head.operation not in (call.operation, None) or head.protocol != call.protocol:
                    wrong.append(f"{model.name}: the head says {head.operation} in {head.protocol}")
                if not call.actions or (not call.region and request.header("authorization").startswith("AWS4-HMAC")):
                    wrong.append(f"{model.name}: {call.actions}, {call.region}")
                if str(call.operation) != f"{service}:{model.name}":
                    continue
                read = call.params
                assert read is not None, model.name
                form = call.protocol in {"query", "ec2"}
                lost = differing(given, dict(read), streamed(model), form)
                if lost:
                    wrong.append(f"{model.name} ({protocol}): {lost} not read back")
                if not call.resources:
                    wrong.append(f"{model.name}: no resources")
    assert wrong == []


def test_the_shared_services_are_shared() -> None:
    """A group is only a group while its members have one endpoint host and one signing name."""
    for group in SHARED:
        meta = [models.load(name, "service-2")["metadata"] for name in group]
        assert len({data.get("signingName") or data["endpointPrefix"] for data in meta}) == 1, group
