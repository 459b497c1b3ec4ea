"""Which members of an AWS answer (or request) are secret: botocore's `sensitive` traits and a table of known ones.

botocore marks far more as sensitive than what is secret (tags, descriptions, map tiles), some pagination tokens among
them, which must survive. So a marked member counts as `secret` where its name or an enclosing one says so; the others are
the set `sensitive`. What is secret and not marked stands in `_KNOWN`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import botocore.exceptions
from botocore.loaders import Loader

_ENV = "environment.value"
_AUTH = ("AuthenticationResult.AccessToken", "AuthenticationResult.IdToken", "AuthenticationResult.RefreshToken")

# service: {operation glob: globs of wire paths}. A trailing `~` says that the value is base64.
_KNOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "secretsmanager": {"*": ("SecretString", "SecretBinary~", "RandomPassword")},
    "ssm": {"StartSession": ("TokenValue",), "ResumeSession": ("TokenValue",), "CreateActivation": ("ActivationCode",),
            "GetAccessToken": ("Credentials.SecretAccessKey", "Credentials.SessionToken")},
    "sts": {"*": ("Credentials.SecretAccessKey", "Credentials.SessionToken", "WebIdentityToken")},
    "iam": {"*": ("AccessKey.SecretAccessKey", "ServicePassword", "ServiceCredentialSecret", "Base32StringSeed~",
                  "QRCodePNG~", "PrivateKey")},
    "lambda": {"*": ("Environment.Variables.*",)},
    "ec2": {"*": ("userData", "userData.value", "passwordData", "keyMaterial", "customerGatewayConfiguration",
                  "preSharedKey", "UserData~")},
    "autoscaling": {"*": ("UserData~",)},
    "ecs": {"*": (_ENV,)},
    "batch": {"*": (_ENV,)},
    "codebuild": {"*": ("environmentVariables.value", "environmentVariablesOverride.value")},
    "apprunner": {"*": ("RuntimeEnvironmentVariables.*",)},
    "amplify": {"*": ("environmentVariables.*", "basicAuthCredentials", "webhookUrl")},
    "ecr": {"GetAuthorizationToken": ("authorizationToken",)},
    "ecr-public": {"GetAuthorizationToken": ("authorizationToken",)},
    "codeartifact": {"GetAuthorizationToken": ("authorizationToken",)},
    "iot": {"*": ("keyPair.PrivateKey", "preSharedKey")},
    "iotsecuretunneling": {"*": ("sourceAccessToken", "destinationAccessToken")},
    "rds": {"*": ("MasterUserPassword",)},
    "redshift": {"*": ("DbPassword", "MasterUserPassword")},
    "redshift-serverless": {"*": ("dbPassword", "adminUserPassword")},
    "cognito-idp": {"*": (*_AUTH, "ClientSecret", "SecretCode", "ProviderDetails.client_secret",
                          "ProviderDetails.private_key", "ClientSecretDescriptor.ClientSecretValue")},
    "cognito-identity": {"*": ("Credentials.SecretKey", "Credentials.SessionToken", "Token")},
    "sso": {"*": ("roleCredentials.secretAccessKey", "roleCredentials.sessionToken")},
    "sso-oidc": {"*": ("accessToken", "refreshToken", "idToken", "clientSecret")},
    "lakeformation": {"*": ("SecretAccessKey", "SessionToken", "Credentials.SecretAccessKey", "Credentials.SessionToken")},
    "s3": {"CreateSession": ("Credentials.SecretAccessKey", "Credentials.SessionToken")},
    "s3control": {"GetDataAccess": ("Credentials.SecretAccessKey", "Credentials.SessionToken")},
    "kms": {"*": ("Plaintext~", "PrivateKeyPlaintext~", "SharedSecret~")},
    "acm": {"ExportCertificate": ("PrivateKey",)},
    "eks-auth": {"*": ("credentials.secretAccessKey", "credentials.sessionToken")},
    "apigateway": {"*ApiKey*": ("value", "item.value"), "*": ("clientSecret",)},
    "appsync": {"*ApiKey*": ("apiKey.id", "apiKeys.id")},
    "lightsail": {"*": ("privateKeyBase64~", "masterUserPassword", "accessDetails.password", "accessDetails.privateKey",
                        "secretAccessKey")},
    "directconnect": {"*": ("authKey", "customerRouterConfig", "cak", "ckn")},
    "glue": {"*": ("ConnectionProperties.PASSWORD", "ConnectionProperties.*SECRET*", "ConnectionProperties.*PASSWORD*")},
    "gamelift": {"*": ("InstanceAccess.Credentials.Secret", "Credentials.SecretAccessKey", "Credentials.SessionToken")},
    "ivs": {"*": ("streamKey.value", "token.token", "participantToken.token", "participantTokens.token")},
    "ivs-realtime": {"*": ("participantToken.token", "participantTokens.token", "streamKey")},
    "connect": {"GetFederationToken": ("Credentials.AccessToken", "Credentials.RefreshToken")},
    "workspaces": {"*": ("SharedSecret",)},
    "ds": {"*": ("SharedSecret",)},
    "mq": {"*": ("password",)},
    "ses": {"*": ("SmtpPassword",)},
    "transfer": {"*": ("HostKeyBody", "PrivateKey")},
    "elasticbeanstalk": {"*": ()},
    "signer": {"*": ()},
    "chime-sdk-meetings": {"*": ("JoinToken",)},
    "managedblockchain": {"*": ("BillingToken",)},
    "license-manager": {"GetAccessToken": ("AccessToken",), "CreateToken": ("Token",)},
    "datazone": {"GetEnvironmentCredentials": ("secretAccessKey", "sessionToken")},
    "emr": {"GetClusterSessionCredentials": ("Credentials.UsernamePassword.Password",)},
    "emr-containers": {"*": ("credentials.token",)},
}  # fmt: skip

_SECRET_NAME = re.compile(
    r"(?i)passw|secret|private_?key|(?:auth|access|refresh|id|session|join|bearer|security|web_?identity)_?token|^token$|"
    r"credential|key_?material|api_?key|pass_?phrase|auth_?code|^plaintext$|user_?data$|connection_?string|"
    r"environment_?variables|^environment$|shared_?secret|_?pin$|seed$|presigned|signed_?url|master_?key|auth_?key"
)
_KEEP_NAME = re.compile(
    r"(?i)(?:next|continuation|page|pagination|client|clientrequest|request|sync)_?token$|marker$|arn$|id$|"
    r"(?:name|type|status|count|date|time|expiration|version|policy|url|uri)$|kms_?key|^keyid$"
)
_RECURSION = 24


@dataclass(frozen=True, slots=True)
class Member:
    """A member by its wire path (a glob), and whether its value is base64 on the wire."""

    path: str
    blob: bool = False


def known(service: str, operation: str) -> tuple[Member, ...]:
    """The table's members of one operation."""
    found: dict[str, Member] = {}
    for glob, paths in _KNOWN.get(service, {}).items():
        if re.fullmatch(re.escape(glob).replace(r"\*", ".*"), operation):
            for path in paths:
                member = Member(path.rstrip("~"), path.endswith("~"))
                found[member.path] = member
    return tuple(found.values())


@lru_cache(maxsize=4096)
def marked(
    service: str, operation: str, side: Literal["input", "output"], which: Literal["secret", "sensitive"]
) -> tuple[Member, ...]:
    """The members that botocore marks as sensitive, on one side of an operation. Empty for what it does not know."""
    model = _sensitive_model(service)
    shape = model.get("operations", {}).get(operation, {}).get(side, {}).get("shape")
    if shape is None:
        return ()
    found: dict[str, Member] = {}
    for path, blob in _walk(model, shape, ()):
        named = any(_SECRET_NAME.search(name) for name in path) and not _KEEP_NAME.search(path[-1])
        if named == (which == "secret") and not _KEEP_NAME.search(path[-1]):
            joined = ("$." + ".".join(path)) if model["anchored"] else ".".join(path)
            found[joined] = Member(joined, blob)
    return tuple(found.values())


@lru_cache(maxsize=8)  # models are large; what is made of them is kept by `marked`
def _sensitive_model(service: str) -> dict[str, Any]:
    """A service's model as far as it is needed here; empty where nothing in it is marked."""
    try:
        model = Loader().load_service_model(service, "service-2")
    except (botocore.exceptions.DataNotFoundError, botocore.exceptions.UnknownServiceError, ValueError, OSError):
        return {}
    if not any(shape.get("sensitive") for shape in model["shapes"].values()):
        return {}
    anchored = "json" in model["metadata"].get("protocol", "")
    return {"operations": model["operations"], "shapes": model["shapes"], "anchored": anchored}


def _walk(
    model: dict[str, Any], name: str, path: tuple[str, ...], seen: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], bool]]:
    shape = model["shapes"][name]
    if shape.get("sensitive") and path:
        yield path, shape["type"] == "blob"
        return
    if name in seen or len(seen) > _RECURSION:
        return
    seen = (*seen, name)
    if shape["type"] == "structure":
        for member, target in shape["members"].items():
            if target.get("location") in {"header", "headers", "uri", "querystring", "statusCode"}:
                continue
            if target.get("sensitive"):
                yield (*path, target.get("locationName", member)), False
                continue
            payload = shape.get("payload") == member
            yield from _walk(
                model, target["shape"], path if payload else (*path, target.get("locationName", member)), seen
            )
    elif shape["type"] == "list":
        yield from _walk(model, shape["member"]["shape"], path, seen)
    elif shape["type"] == "map":
        yield from _walk(model, shape["value"]["shape"], (*path, "*"), seen)


def of(service: str, operation: str, side: Literal["input", "output"], which: str) -> tuple[Member, ...]:
    """What the set `which` (secret or sensitive) hides in one side of an operation."""
    if which == "secret":
        listed = known(service, operation)
        parents = tuple("." + member.path.rpartition(".")[0].lower() for member in listed if "." in member.path)
        # where the table names a member of a marked structure (an environment's values), its other members stay readable
        marks = [m for m in marked(service, operation, side, "secret") if not m.path.lower().endswith(parents)]
        return (*listed, *marks)
    return marked(service, operation, side, "sensitive")
