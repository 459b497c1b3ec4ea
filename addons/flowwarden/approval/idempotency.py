"""Which members of a request are an SDK's generated idempotency tokens (botocore's trait `idempotencyToken`)."""

from __future__ import annotations

import re
from functools import cache

from botocore.loaders import Loader
from botocore.model import ServiceModel

from ..types import Operation

GENERATED = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""What the SDKs fill in: a UUID. A value that somebody chose is bound like any other."""

TOKEN_NAMES = frozenset(
    {
        "clientrequesttoken",
        "clienttoken",
        "clienttokenid",
        "creationtoken",
        "creatorrequestid",
        "executetoken",
        "idempotencytoken",
        "operationid",
        "provisiontoken",
        "requestid",
        "terminatetoken",
        "updaterrequestid",
        "updatetoken",
    }
)
"""Members that name the attempt only. botocore gives its trait to others too, which name what is acted upon: Athena's
NamedQueryId and QueryExecutionId, AgentCore's runtimeSessionId. Those are bound."""

BECOMES_DATA = frozenset(
    {
        # The token is the VersionId of what the call makes.
        # https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html
        # https://docs.aws.amazon.com/marketplace/latest/APIReference/API_marketplace-deployment_PutDeploymentParameter.html
        "marketplace-deployment:PutDeploymentParameter",
        "secretsmanager:CreateSecret",
        "secretsmanager:PutSecretValue",
        "secretsmanager:RotateSecret",
        "secretsmanager:UpdateSecret",
    }
)


@cache
def _model(service: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


@cache
def members(operation: Operation) -> tuple[tuple[str, str, str], ...]:
    """(member, location, name on the wire) of an operation's tokens; location is body, header, querystring or uri."""
    if str(operation) in BECOMES_DATA:
        return ()
    try:
        found = _model(operation.service).operation_model(operation.name)
    except Exception:  # a service or operation that botocore does not know has no known tokens: all of it is bound
        return ()
    if found.input_shape is None:
        return ()
    shapes = found.input_shape.members
    return tuple(
        (
            name,
            shapes[name].serialization.get("location", "body"),
            shapes[name].serialization.get("name", name),
        )
        for name in found.idempotent_members
        if name.lower() in TOKEN_NAMES
    )
