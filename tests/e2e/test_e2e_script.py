"""The chain as a script of a stock mitmdump: `mitmdump -s addons/gateway.py`, for development."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from support.clients import boto_client, eventually
from support.gateway import POLICY, REGION, GatewayProcess
from support.issuer import OidcIssuer
from support.strict_aws import StrictAws

ROOT = Path(__file__).parents[2]


class ScriptProcess(GatewayProcess):
    """mitmdump instead of `flowwarden run`, everything else alike."""

    def spawn(self, *arguments: str) -> GatewayProcess:
        (self.state / "ca").mkdir(mode=0o700, parents=True)
        (self.state / "ca" / "config.yaml").write_text(self.conf.read_text())
        self.program = [str(Path(sys.executable).with_name("mitmdump")), "-s", str(ROOT / "addons" / "gateway.py")]
        return super().spawn("--set", f"confdir={self.state / 'ca'}", *arguments)


def test_a_stock_mitmdump(tmp_path: Path, issuer: OidcIssuer) -> None:
    """Calls, masks, refusals, uploads that stream and that wait on disk, the end of a session: as with `flowwarden run`."""
    held = {
        "id": "held",
        "effect": "approve",
        "actions": ["s3:PutObject"],
        "resources": ["arn:aws:s3:::b/held*"],
        "approvers": {"groups": ["sre"]},
        "hold": "20s",
        "expires": "60s",
    }
    data = os.urandom(3 << 20)
    with StrictAws(open_sts=True) as aws:
        script = ScriptProcess(
            tmp_path,
            issuer,
            sandbox=aws.url,
            policy=POLICY | {"rules": [*POLICY["rules"], held]},
            options={"warden_body_limit": "1m", "warden_state": str(tmp_path / "state")},
        )
        script.env["PYTHONUNBUFFERED"] = "1"
        with script:
            env = script.session(subject="alice")
            s3 = boto_client("s3", env)
            s3.create_bucket(Bucket="b", CreateBucketConfiguration={"LocationConstraint": REGION})
            s3.put_object(Bucket="b", Key="free", Body=data)
            assert s3.get_object(Bucket="b", Key="free")["Body"].read() == data
            with pytest.raises(ClientError, match="for ever"):
                s3.delete_bucket(Bucket="b")
            carol = issuer.token("carol", ("sre",), owner=None)
            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(lambda: s3.put_object(Bucket="b", Key="held", Body=data))
                (question,) = eventually(lambda: script.questions(carol), what="a question")
                script.operators("POST", f"/approvals/{question['id']}/answer", carol, {"approve": True, "reason": "x"})
                running.result(60)
            assert bytes(aws.s3.buckets["b"].objects["held"].data) == data
            admin = issuer.token("root", ("platform",), owner=None)
            assert script.operators("DELETE", f"/sessions/{env['FLOWWARDEN_SESSION']}", admin)[0] == 200
            with pytest.raises(ClientError, match="ended"):
                s3.get_object(Bucket="b", Key="free")
        assert "Traceback" not in script.text
        assert script.run("verify").returncode == 0
