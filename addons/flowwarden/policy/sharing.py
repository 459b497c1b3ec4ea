"""Calls that share things outwards: which parameters name the stranger, and whom a resource policy lets in.

Sources: the API references of the services named in the tables; for policies, IAM's JSON policy reference
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

# Operation -> parameter paths whose every value has to be one of the session's accounts, or an ARN in one of them.
NAMED: Mapping[str, tuple[str, ...]] = {
    "ec2:ModifySnapshotAttribute": ("UserIds", "GroupNames", "CreateVolumePermission.Add"),
    "ec2:ModifyImageAttribute": ("UserIds", "UserGroups", "OrganizationArns", "LaunchPermission.Add"),
    "ec2:ModifyFpgaImageAttribute": ("UserIds", "UserGroups", "LoadPermission.Add"),
    "ec2:ModifyVpcEndpointServicePermissions": ("AddAllowedPrincipals",),
    "ec2:CreateNetworkInterfacePermission": ("AwsAccountId", "AwsService"),
    "rds:ModifyDBSnapshotAttribute": ("ValuesToAdd",),
    "rds:ModifyDBClusterSnapshotAttribute": ("ValuesToAdd",),
    "docdb:ModifyDBClusterSnapshotAttribute": ("ValuesToAdd",),
    "neptune:ModifyDBClusterSnapshotAttribute": ("ValuesToAdd",),
    "redshift:AuthorizeSnapshotAccess": ("AccountWithRestoreAccess",),
    "redshift:AuthorizeEndpointAccess": ("Account",),
    "ram:CreateResourceShare": ("principals",),
    "ram:AssociateResourceShare": ("principals",),
    "lambda:AddLayerVersionPermission": ("Principal", "OrganizationId"),
    "sns:AddPermission": ("AWSAccountId",),
    "sqs:AddPermission": ("AWSAccountIds",),
    "events:PutPermission": ("Principal",),
    "ssm:ModifyDocumentPermission": ("AccountIdsToAdd",),
    "lakeformation:GrantPermissions": ("Principal.DataLakePrincipalIdentifier",),
    "lakeformation:BatchGrantPermissions": ("Entries.Principal.DataLakePrincipalIdentifier",),
    "s3:PutBucketAcl": ("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWrite", "GrantWriteACP",
                        "AccessControlPolicy.Grants.Grantee"),
    "s3:PutObjectAcl": ("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWrite", "GrantWriteACP",
                        "AccessControlPolicy.Grants.Grantee"),
    "s3:PutObject": ("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP"),
    "s3:CopyObject": ("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP"),
    "s3:CreateMultipartUpload": ("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP"),
    "s3:CreateBucket": ("GrantFullControl", "GrantRead", "GrantReadACP", "GrantWrite", "GrantWriteACP"),
}  # fmt: skip

# Principals of these may also be services (`events.amazonaws.com`), which act for the account that configured them.
OR_SERVICE: Mapping[str, tuple[str, ...]] = {
    "lambda:AddPermission": ("Principal",),
    "kms:CreateGrant": ("GranteePrincipal", "RetiringPrincipal", "GranteeServicePrincipal"),
}

# Operations that write to a bucket of which only the name is given: the parameter that has to say whose it is.
OWNER_NEEDED: Mapping[str, tuple[str, str]] = {
    "s3:PutBucketReplication": ("ReplicationConfiguration.Rules.Destination", "Account"),
    "s3:PutBucketInventoryConfiguration": (
        "InventoryConfiguration.Destination.S3BucketDestination", "AccountId"),
    "s3:PutBucketAnalyticsConfiguration": (
        "AnalyticsConfiguration.StorageClassAnalysis.DataExport.Destination.S3BucketDestination", "BucketAccountId"),
    "dynamodb:ExportTableToPointInTime": ("", "S3BucketOwner"),
}  # fmt: skip

# Members that hold the caller's own data, in which an ARN is a text like any other.
DATA: Mapping[str, frozenset[str]] = {
    "dynamodb": frozenset({"Item", "Key", "Items", "Keys", "ExpressionAttributeValues", "AttributeUpdates", "Expected",
                           "PutRequest", "DeleteRequest", "Parameters", "ExclusiveStartKey"}),
    "sqs": frozenset({"MessageBody", "MessageAttributes"}),
    "sns": frozenset({"Message", "Subject", "MessageAttributes"}),
    "logs": frozenset({"logEvents", "queryString", "filterPattern"}),
    "kinesis": frozenset({"Data", "PartitionKey"}),
    "firehose": frozenset({"Data"}),
    "events": frozenset({"Detail"}),
    "lambda": frozenset({"Payload", "ZipFile", "InvokeArgs"}),
    "s3": frozenset({"Body", "Metadata"}),
    "bedrock-runtime": frozenset({"body", "messages", "system"}),
    "secretsmanager": frozenset({"SecretString", "SecretBinary"}),
    "rds-data": frozenset({"sql", "parameters", "parameterSets"}),
    "redshift-data": frozenset({"Sql", "Sqls", "Parameters"}),
    "kms": frozenset({"Plaintext", "CiphertextBlob", "EncryptionContext", "Message"}),
    "xray": frozenset({"TraceSegmentDocuments"}),
}  # fmt: skip

_OWN_KEYS = frozenset({"aws:principalaccount", "aws:sourceaccount", "aws:sourceowner", "kms:calleraccount"})
_EQUALS = frozenset({"stringequals", "stringequalsignorecase", "arnequals"})


def policy_of(text: str) -> Mapping[str, Any] | None:
    """A text that is an IAM policy document, read; None for any other text."""
    if "{" not in text or "tatement" not in text:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and any(key.lower() == "statement" for key in found) else None


def _get(statement: Mapping[str, Any], name: str) -> Any:
    """A member by name; IAM takes keys in any case."""
    return next((value for key, value in statement.items() if key.lower() == name), None)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def principals(policy: Mapping[str, Any], accounts: frozenset[str]) -> Iterator[str]:
    """Whom the Allow statements of a resource policy let in: account ids, ARNs, `*`, canonical ids.

    Services are left out. So is everyone, where a condition narrows it to the accounts given.
    """
    for statement in _listed(_get(policy, "statement")):
        if not isinstance(statement, dict):
            yield "*"
            continue
        if str(_get(statement, "effect")).lower() == "deny":
            continue
        if _get(statement, "notprincipal") is not None:
            yield "*"
        found = list(_named(_get(statement, "principal")))
        if "*" in found and _narrowed(_get(statement, "condition"), accounts):
            found = [name for name in found if name != "*"]
        yield from found


def _named(principal: Any) -> Iterator[str]:
    if isinstance(principal, dict):
        for kind, values in principal.items():
            if kind.lower() not in ("service", "federated"):
                yield from (str(value) for value in _listed(values))
    else:
        yield from (str(value) for value in _listed(principal))


def _narrowed(condition: Any, accounts: frozenset[str]) -> bool:
    """Whether a condition leaves only callers of the accounts given."""
    if not isinstance(condition, dict):
        return False
    for operator, tests in condition.items():
        if operator.lower() not in _EQUALS or not isinstance(tests, dict):
            continue
        for key, values in tests.items():
            if key.lower() in _OWN_KEYS and (named := _listed(values)) and {str(name) for name in named} <= accounts:
                return True
    return False
