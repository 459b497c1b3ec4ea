"""Recorded requests decided again: what changes under other rules, and whether anything that ran would be refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import requests
from replay_helpers import SESSION, Tape, sandbox

from flowwarden import replay
from flowwarden.errors import RuleError, StoreError
from flowwarden.recognition.recogniser import Recogniser
from flowwarden.recording import records

ALL = "default: deny\nrules:\n  - {id: all, effect: allow, actions: ['*']}\n"
NO_VPCS = ALL + "  - {id: no-vpcs, effect: deny, actions: ['ec2:DescribeVpcs']}\n"
BY_PARAMETER = (
    ALL
    + "  - {id: ask, effect: approve, actions: ['ec2:RunInstances'], params: {MaxCount: ['>1']}, approvers: {groups: [sre]}}\n"
)


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    with sandbox() as url:
        requests.post(f"{url}/moto-api/reset", timeout=10)
        tape = Tape(url)
        ec2, s3 = tape.client("ec2"), tape.client("s3")
        ec2.describe_vpcs()
        ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=2)
        s3.create_bucket(Bucket="orders", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        about = {**tape.flows[0][1], "flow": "refused", "decision": "deny"}
        end = records.outcome("refused", "refused", intent=None, session=SESSION, status=403, code="AccessDenied")
        return tape.record(tmp_path_factory.mktemp("decide"), (about, end))


def rules(tmp_path: Path, text: str) -> Path:
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_the_same_rules_change_nothing(tmp_path, folder, recogniser):
    found = replay.redecide(folder, rules(tmp_path, ALL), recogniser=recogniser)
    assert (found.decided, found.changed, found.exit_code) == (3, [], 0)
    assert found.undecided == {"no frame": 1}


def test_what_would_be_refused(tmp_path, folder, recogniser):
    """A deny for something that ran: named with its rule, exit code 1."""
    found = replay.redecide(folder, rules(tmp_path, NO_VPCS), session=SESSION, recogniser=recogniser)
    (one,) = found.refused
    assert (one.was, one.now, one.rules_now) == ("allow", "deny", ("no-vpcs",))
    assert found.exit_code == 1


def test_parameters_are_read_again(tmp_path, folder, recogniser):
    """A rule about a parameter that the old rules did not look at."""
    found = replay.redecide(folder, rules(tmp_path, BY_PARAMETER), recogniser=recogniser)
    (one,) = found.changed
    assert (one.now, one.rules_now, found.exit_code) == ("approve", ("ask",), 0)


def test_span_of_time(tmp_path, folder, recogniser):
    path = rules(tmp_path, NO_VPCS)
    assert replay.redecide(folder, path, since="2999", recogniser=recogniser).decided == 0
    assert replay.redecide(folder, path, until="2999", since="2020", recogniser=recogniser).decided == 3


def test_nothing_decided_is_no_success(tmp_path, folder, recogniser):
    """A session that is not there; one of which nothing lies in the span is."""
    path = rules(tmp_path, ALL)
    with pytest.raises(StoreError, match="there is no session nobody"):
        replay.redecide(folder, path, session="nobody", recogniser=recogniser)
    assert replay.redecide(folder, path, session=SESSION, since="2999", recogniser=recogniser).decided == 0


def test_rules_that_do_not_check(tmp_path, folder, recogniser):
    with pytest.raises(RuleError):
        replay.redecide(folder, rules(tmp_path, "default: maybe\n"), recogniser=recogniser)


def test_speed(tmp_path, recogniser):
    """10,000 flows in under 20 seconds, measured on 1,000."""
    with sandbox() as url:
        tape = Tape(url)
        tape.client("sts").get_caller_identity()
    tape.flows *= 1000
    folder = tape.record(tmp_path)
    path = rules(tmp_path, NO_VPCS)
    began = time.process_time()
    assert replay.redecide(folder, path, recogniser=recogniser).decided == 1000
    assert time.process_time() - began < 2.0
