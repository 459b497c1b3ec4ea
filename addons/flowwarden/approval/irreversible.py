"""What cannot be undone about a call, in a sentence, for the one who decides. Empty where nothing is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..types import Call

# Each says what AWS's own documentation of the operation says.
_KNOWN: Mapping[str, str] = {
    "cloudformation:DeleteStack": "Every resource of the stack without a DeletionPolicy of Retain is deleted with it.",
    "cognito-idp:DeleteUserPool": "All users of the pool and their passwords are gone.",
    "dynamodb:DeleteTable": "The table and all its items are gone; only backups made before can be restored.",
    "ec2:DeleteSnapshot": "The snapshot is gone unless a Recycle Bin rule keeps it.",
    "ec2:DeleteVolume": "The volume and its data are gone; only snapshots made before can be restored.",
    "ec2:TerminateInstances": "A terminated instance cannot be started again; instance store and volumes that are deleted on termination are gone.",
    "efs:DeleteFileSystem": "The file system and everything in it are gone.",
    "iam:DeleteAccessKey": "The key is gone; whatever uses it stops working.",
    "iam:DeleteRole": "A role of the same name made later is another role: policies elsewhere that name it do not apply.",
    "iam:DeleteUser": "A user of the same name made later is another user: policies elsewhere that name it do not apply.",
    "kms:DeleteImportedKeyMaterial": "What the key has encrypted cannot be read until the same material is imported again.",
    "kms:ScheduleKeyDeletion": "After the waiting period (7 to 30 days) nothing that the key has encrypted can be read again.",
    "logs:DeleteLogGroup": "All log events in the group are gone.",
    "rds:DeleteDBCluster": "The cluster and its automated backups are gone.",
    "rds:DeleteDBInstance": "The instance is gone, and its automated backups unless they are kept expressly.",
    "rds:DeleteDBSnapshot": "The snapshot is gone.",
    "redshift:DeleteCluster": "The cluster is gone.",
    "route53:ChangeResourceRecordSets": "Resolvers keep the old answer until its TTL has passed.",
    "s3:DeleteBucket": "The name is free: another account may take it and receive what is still sent to it.",
    "s3:DeleteObject": "Without versioning the object is gone; with a version id that version is gone in any case.",
    "s3:DeleteObjects": "Without versioning the objects are gone; with version ids those versions are gone in any case.",
    "secretsmanager:DeleteSecret": "After the recovery window (7 to 30 days) the secret is gone.",
    "sqs:DeleteQueue": "The queue and all messages in it are gone.",
    "sqs:PurgeQueue": "All messages in the queue are gone.",
}
_VERBS = ("Delete", "Destroy", "Terminate", "Purge", "Wipe", "Erase", "Deregister", "Release", "Revoke", "Remove")


def note(call: Call) -> str:
    """One or two sentences for `summary["irreversible"]`."""
    if call.operation is None:
        return "The gateway does not know this operation, nor whether it can be undone." if call.aws else ""
    name, params = str(call.operation), call.params or {}
    said = _KNOWN.get(name, "")
    if not said and call.operation.name.startswith(_VERBS):
        said = "What it deletes or takes away may not come back."
    return " ".join(part for part in (said, _by_parameter(name, params)) if part)


def _by_parameter(name: str, params: Mapping[str, Any]) -> str:
    """What a parameter makes worse."""
    if name in ("rds:DeleteDBInstance", "rds:DeleteDBCluster") and params.get("SkipFinalSnapshot") in (True, "true"):
        return "No final snapshot is taken."
    if name == "redshift:DeleteCluster" and params.get("SkipFinalClusterSnapshot") in (True, "true"):
        return "No final snapshot is taken."
    if name == "secretsmanager:DeleteSecret" and params.get("ForceDeleteWithoutRecovery") in (True, "true"):
        return "There is no recovery window: it is gone at once."
    if params.get("DryRun") in (True, "true"):
        return "This is a dry run: AWS checks permissions and does nothing."
    return ""
