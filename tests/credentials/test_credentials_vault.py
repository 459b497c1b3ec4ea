"""Leases from a strict STS: names, tags, bounds, renewal, failure, and that nothing is left when a session ends."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from flowwarden.credentials import names, phantoms, sts
from flowwarden.credentials.denies import Denies
from flowwarden.credentials.rules import CredentialRule, CredentialRules
from flowwarden.credentials.vault import MARGIN, Vault
from flowwarden.errors import Refusal
from flowwarden.signing import keys
from flowwarden.types import Credentials, Operation, Phantom, Principal, Session
from support.strict_sts import Refused, Role, StrictSts, permits, serving

ACCOUNT, OTHER = "123456789012", "210987654321"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/agents/developer"
BOTO = boto3.Session()
GATEWAY = f"arn:aws:iam::{ACCOUNT}:user/gateway"
RULE = CredentialRule(accounts=(ACCOUNT,), groups=frozenset({"developers"}), assume_role=(ROLE,))


class Clock:
    def __init__(self) -> None:
        import time

        self.ahead, self._time = 0.0, time.time

    def __call__(self) -> float:
        return self._time() + self.ahead


def session(subject="alice@example.com", groups=("developers",), **more) -> Session:
    principal = Principal("https://idp", subject, agent="coder", groups=frozenset(groups), **more)
    return Session(secrets.token_hex(16), principal, 0, 1e12, 1e12, "", phantoms.mint())


@pytest.fixture
def stub():
    with serving(StrictSts(roles={ROLE: Role(ROLE, {GATEWAY})})) as running:
        running.base = running.user(GATEWAY)
        yield running


@pytest.fixture
def make(stub):
    """A vault whose own keys are those of the gateway's user at the strict STS."""
    made = []

    def factory(profile, region, credentials, endpoint):
        key, secret = stub.base
        shown = credentials or Credentials(key, secret)
        return sts.client(BOTO, region or "us-east-1", shown, stub.url)

    def build(*rules, **more):
        made.append(Vault(CredentialRules(rules or (RULE,)), client_factory=factory, **more))
        return made[-1]

    yield build
    for vault in made:
        vault.close()


async def settled(vault, session_id):
    """Waits for what renews a session's lease."""
    task = vault._entries[session_id].task
    if task is not None:
        await asyncio.wait({task})


async def test_lease(stub, make):
    """One AssumeRole with names, tags, duration and bound; then from memory; single flight."""
    notes = []
    vault = make(note=lambda kind, record: notes.append((kind, record)))
    one = session("alice@example.com", ("developers", "a:b", "päd"))
    assert vault.current(one.id) is None
    leases = await asyncio.gather(*(vault.lease(one) for _ in range(10)))
    assert len(stub.calls) == 1 and len({lease.credentials.access_key_id for lease in leases}) == 1
    assert vault.current(one.id) is leases[0]
    assert await vault.lease(one) is leases[0]
    lease, call = leases[0], stub.calls[0]
    held = stub.keys[lease.credentials.access_key_id]
    assert (held.secret, held.token) == (lease.credentials.secret_access_key, lease.credentials.session_token)
    assert (lease.account, lease.role_arn, lease.accounts, lease.session_id) == (ACCOUNT, ROLE, (ACCOUNT,), one.id)
    assert lease.expires == held.expires.timestamp()
    assert call["RoleSessionName"] == call["SourceIdentity"] == "alice@example.com"
    assert call["DurationSeconds"] == "900"
    assert held.tags == {
        "subject": "alice@example.com",
        "session": one.id,
        "agent": "coder",
        "groups": ":a=3Ab:developers:päd:",
    }
    assert [kind for kind, _ in notes] == ["lease"]
    for text in vault.secrets():
        assert text not in repr(notes) + repr(lease) + repr(vault.__dict__)


async def test_account_pin(stub, make):
    """The session policy takes away what is another account's, and nothing else."""
    vault = make(
        replace(RULE, unpinned_actions=("ec2:RunInstances",)), denies=lambda _p: Denies(needed=("iam:CreateUser",))
    )
    lease = await vault.lease(session())
    policies = stub.keys[lease.credentials.access_key_id].session_policies
    assert permits(policies, "s3:GetObject", {"aws:ResourceAccount": ACCOUNT})
    assert not permits(policies, "s3:GetObject", {"aws:ResourceAccount": OTHER})
    assert permits(policies, "ec2:DescribeInstances", {})
    assert permits(policies, "ec2:RunInstances", {"aws:ResourceAccount": OTHER})
    assert not permits(policies, "iam:CreateUser", {"aws:ResourceAccount": ACCOUNT})


async def test_managed_policies_bound_the_session(stub, make):
    """With policy_arns the inline policy allows nothing, since session policies add up."""
    arn = "arn:aws:iam::aws:policy/ReadOnlyAccess"
    read = [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]
    stub.managed[arn] = {"Version": "2012-10-17", "Statement": read}
    lease = await make(replace(RULE, policy_arns=(arn,))).lease(session())
    policies = stub.keys[lease.credentials.access_key_id].session_policies
    assert permits(policies, "s3:GetObject", {"aws:ResourceAccount": ACCOUNT})
    assert not permits(policies, "s3:GetObject", {"aws:ResourceAccount": OTHER})
    assert not permits(policies, "s3:PutObject", {"aws:ResourceAccount": ACCOUNT})


async def test_what_does_not_fit_is_refused(stub, make):
    """A bound that STS would not take refuses the session before STS is asked; nothing is left out."""
    many = Denies(needed=tuple(f"service{i}:Delete*" for i in range(120)), by=("keep-it",))
    with pytest.raises(Refusal, match=r"2048.*keep-it") as refused:
        await make(denies=lambda _p: many).lease(session())
    assert refused.value.status == 403
    with pytest.raises(Refusal, match="groups"):
        await make().lease(session(groups=("developers", *(f"group-number-{i}" for i in range(30)))))
    assert stub.asked == 0
    groups = ("developers", *(f"group-number-{i}" for i in range(30)))
    await make(replace(RULE, tags=("subject", "session"))).lease(session(groups=groups))
    assert "groups" not in stub.keys[list(stub.keys)[-1]].tags


async def test_what_need_not_be_in_the_policy_makes_room_for_tags(stub, make):
    """STS packs policy and tags in a way of its own: if that is too large, what is needed is asked for alone."""
    spare = Denies(("iam:CreateUser",), tuple(f"service{i}:Delete*" for i in range(120)))
    notes = []
    groups = ("developers", *(f"group-{i}" for i in range(28)))
    stub.packed_most = 1500
    vault = make(denies=lambda _p: spare, note=lambda _kind, record: notes.append(record))
    lease = await vault.lease(session(groups=groups))
    held = stub.keys[lease.credentials.access_key_id]
    assert held.session_policies[0]["Statement"][-1]["Action"] == "iam:CreateUser" and "group-27" in held.tags["groups"]
    assert notes[0]["denies_left_out"] == 120
    stub.packed_most = 100
    with pytest.raises(Refusal, match="PackedPolicyTooLarge"):
        await vault.lease(session(groups=groups))


@pytest.mark.parametrize(
    "subject",
    ["a", "ü", "x y/z:ä", "a" * 64, "b" * 65, "=", "=-", "auth0|" + "é" * 40, "日本" * 30, "system:serviceaccount:a:b"],
)
async def test_any_subject_is_taken_by_sts(stub, make, subject):
    """Every principal gets a session name and a source identity that STS takes, and that can be told again."""
    vault = make()
    lease = await vault.lease(session(subject))
    held = stub.keys[lease.credentials.access_key_id]
    assert names.matches(held.source_identity, subject)
    text, whole = names.decode(held.source_identity)
    assert text == subject if whole else subject.startswith(text)
    assert names.decode(held.tags["subject"]) == (subject, True)


async def test_chain(stub, make):
    """Each role of a chain is assumed with the credentials of the one before; an hour at most."""
    last = f"arn:aws:iam::{OTHER}:role/target"
    stub.roles[last] = Role(last, {f"arn:aws:sts::{ACCOUNT}:assumed-role/developer/alice@example.com"}, 43200)
    stub.roles[ROLE].external_id = "shared"
    rule = replace(RULE, assume_role=(ROLE, last), accounts=(OTHER,), duration=3600, external_id="shared")
    lease = await make(rule).lease(session())
    assert (lease.account, lease.role_arn) == (OTHER, last)
    held = stub.keys[lease.credentials.access_key_id]
    assert held.source_identity == "alice@example.com"
    assert not permits(held.session_policies, "s3:GetObject", {"aws:ResourceAccount": ACCOUNT})
    with pytest.raises(Refusal, match="1 hour"):
        await make(replace(rule, duration=7200)).lease(session())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"trusts": set()}, "sts:AssumeRole"),
        ({"tag_session": False}, "sts:TagSession"),
        ({"set_source_identity": False}, "sts:SetSourceIdentity"),
    ],
)
async def test_the_trust_policy_is_explained(stub, make, change, word):
    """An AccessDenied of STS says what the trust policy lacks, and is not tried again."""
    stub.roles[ROLE] = replace(stub.roles[ROLE], **change)
    with pytest.raises(Refusal, match="trust policy has to allow") as refused:
        await make().lease(session())
    assert refused.value.status == 403 and word in refused.value.message


async def test_no_entry_no_credentials(stub, make):
    """A principal that no entry is for gets nothing, nor one whose session has ended."""
    with pytest.raises(Refusal, match="no entry"):
        await make().lease(session(groups=("others",)))
    with pytest.raises(Refusal, match="ended"):
        await make().lease(replace(session(), ended=1.0))
    vault = make()
    vault.refuse = "not here"
    with pytest.raises(Refusal, match="not here"):
        await vault.lease(session())
    assert stub.asked == 0


async def test_sts_unreachable(make, stub):
    """503 with a reason; a moment later it is asked again."""
    vault, one = make(), session()
    stub.failing = Refused("ServiceUnavailable", "down", 503)
    for _ in range(3):
        with pytest.raises(Refusal, match="ServiceUnavailable") as refused:
            await vault.lease(one)
        assert (refused.value.status, refused.value.code) == (503, "ServiceUnavailable")
    assert stub.asked <= 2  # botocore's two attempts, then the refusal is remembered
    stub.failing = None
    vault._entries[one.id].retry_at = 0
    assert await vault.lease(one)

    def nowhere(profile, region, credentials, endpoint):
        return boto3.client(
            "sts",
            region_name="us-east-1",
            endpoint_url="http://127.0.0.1:9",
            aws_access_key_id="x",
            aws_secret_access_key="x",
            config=Config(connect_timeout=1, retries={"total_max_attempts": 1}),
        )

    vault = Vault(CredentialRules((RULE,)), client_factory=nowhere)
    with pytest.raises(Refusal, match="cannot be asked") as refused:
        await vault.lease(session())
    assert refused.value.status == 503
    vault.close()


async def test_sts_does_not_answer(stub, make, monkeypatch):
    """A call waits a bounded time; STS's answer still counts for the next one."""
    monkeypatch.setattr("flowwarden.credentials.vault.WAIT", 0.05)
    vault, one = make(), session()
    stub.gate = threading.Event()
    with pytest.raises(Refusal, match="not answered yet") as refused:
        await vault.lease(one)
    assert refused.value.status == 503
    stub.gate.set()
    await settled(vault, one.id)
    assert vault.current(one.id) is not None


async def test_a_programming_error_is_a_refusal():
    """Whatever goes wrong in a source, calls are refused and nothing else."""

    def broken(*_arguments):
        raise RuntimeError("secret detail")

    vault = Vault(CredentialRules((RULE,)), client_factory=broken)
    with pytest.raises(Refusal, match="RuntimeError") as refused:
        await vault.lease(session())
    assert "secret detail" not in str(refused.value)
    vault = Vault(CredentialRules((RULE,)), client_factory=broken, denies=lambda _p: 1 / 0)
    with pytest.raises(Refusal) as refused:
        await vault.lease(session())
    assert refused.value.status == 503


async def test_renewal_in_the_background(stub, make):
    """A lease in use is renewed before it ends; calls meanwhile get the old one; its keys are forgotten then."""
    clock = Clock()
    vault, one = make(clock=clock), session()
    first = await vault.lease(one)
    keys.signing_key(first.credentials.secret_access_key, "20261120", "r", "s3")
    clock.ahead = 500
    assert vault.current(one.id) is first and vault._entries[one.id].task is None
    clock.ahead = 650
    assert vault.current(one.id) is first
    await settled(vault, one.id)
    second = vault.current(one.id)
    assert second.credentials != first.credentials and len(stub.calls) == 2
    assert first.credentials.secret_access_key not in keys._keys
    assert not set(vault.secrets()) & {first.credentials.secret_access_key, first.credentials.session_token}


async def test_the_timer_renews_what_is_used_and_drops_what_has_ended(stub, make):
    """Without a call at the right moment the timer renews; an unused lease ends and leaves memory."""
    vault, one = make(), session()
    first = await vault.lease(one)
    entry = vault._entries[one.id]
    vault._due(entry, first)
    await settled(vault, one.id)
    second = entry.lease
    assert second is not first and entry.used is False
    vault._due(entry, second)
    assert entry.task is None
    vault._over(entry, first)
    assert entry.lease is second
    vault._over(entry, second)
    assert entry.lease is None and vault.current(one.id) is None
    assert vault.secrets() == []


async def test_a_lease_that_cannot_be_renewed(stub, make):
    """The old lease serves to its end, STS is not stormed, then calls get 503 and nothing is signed."""
    clock = Clock()
    vault, one = make(clock=clock), session()
    first = await vault.lease(one)
    stub.failing, before = Refused("Throttling", "slow down"), stub.asked
    clock.ahead = 700
    for _ in range(20):
        assert vault.current(one.id) is first
        await settled(vault, one.id)
    assert stub.asked - before <= 2
    clock.ahead = 900 - MARGIN + 1
    assert vault.current(one.id) is None
    with pytest.raises(Refusal) as refused:
        await vault.lease(one)
    assert refused.value.status == 503
    stub.failing = None
    clock.ahead = 1000
    with pytest.raises(Refusal, match="ran out"):  # what STS gives by its clock is over by ours: never signed with
        await vault.lease(one)
    stub.ahead = clock.ahead
    assert (await vault.lease(one)).credentials != first.credentials


async def test_the_end_of_a_session(stub, make):
    """Its lease, derived phantoms and signing keys go; what STS still answers is thrown away; others stay."""
    vault, one, two = make(), session(), session("bob")
    lease, other = await vault.lease(one), await vault.lease(two)
    phantom = vault.mint_for(one.id, Credentials("ASIA" + "A" * 16, "s" * 40, "t" * 100))
    keys.signing_key(lease.credentials.secret_access_key, "20261120", "r", "s3")
    keys.signing_key("s" * 40, "20261120", "r", "s3")
    vault.forget(one.id)
    vault.forget(one.id)
    assert vault.current(one.id) is None and vault.by_key(phantom.access_key_id) is None
    assert set(vault.secrets()) == {other.credentials.secret_access_key, other.credentials.session_token}
    assert not {lease.credentials.secret_access_key, "s" * 40} & keys._keys.keys()
    assert vault.current(two.id) is other
    for call in (vault.lease(one), asyncio.to_thread(vault.mint_for, one.id, lease.credentials)):
        with pytest.raises(Refusal) as refused:
            await call
        assert refused.value.code == "ExpiredToken"
    three, stub.gate = session("carol"), threading.Event()
    waiting = asyncio.create_task(vault.lease(three))
    while stub.asked < 3:  # noqa: ASYNC110 - the stub answers in a thread
        await asyncio.sleep(0)
    vault.forget(three.id)
    stub.gate.set()
    with pytest.raises(Refusal, match="ended"):
        await waiting
    assert vault.current(three.id) is None and len(vault.secrets()) == 2


async def test_changed_rules(stub, make):
    """A lease under an entry that has changed is dropped; one whose entry stayed goes on."""
    other = replace(RULE, groups=frozenset({"others"}))
    vault, one, two = make(RULE, other), session(), session(groups=("others",))
    first, second = await vault.lease(one), await vault.lease(two)
    phantom = vault.mint_for(one.id, Credentials("ASIA" + "D" * 16, "s" * 40, "t" * 100))
    vault.take_up(CredentialRules((replace(RULE, duration=3600), other)))
    assert vault.current(one.id) is None and vault.current(two.id) is second
    assert vault.by_key(phantom.access_key_id) is None
    assert first.credentials.secret_access_key not in vault.secrets()
    stub.roles[ROLE].max_duration = 3600
    assert (await vault.lease(one)).expires > first.expires + 2000
    vault.take_up(CredentialRules((RULE,)))
    with pytest.raises(Refusal, match="no entry"):
        await vault.lease(two)


async def test_two_sessions_never_share(stub, make):
    """Sessions at the same time get credentials of their own, even of the same principal."""
    vault = make()
    some = [session("alice") for _ in range(5)] + [session("bob") for _ in range(5)]
    leases = await asyncio.gather(*map(vault.lease, some))
    assert len({lease.credentials.access_key_id for lease in leases}) == 10
    for one, lease in zip(some, leases, strict=True):
        held = stub.keys[lease.credentials.access_key_id]
        assert (held.tags["session"], held.tags["subject"]) == (one.id, one.principal.subject)
        assert vault.current(one.id).session_id == one.id


async def test_derived_phantoms(stub, make):
    """Credentials out of an answer live in the vault under a phantom of the same shape, with the session's bounds."""
    vault, one = make(), session()
    lease = await vault.lease(one)
    real = Credentials("ASIA" + "B" * 16, secrets.token_urlsafe(30), secrets.token_urlsafe(400), 99.0)
    role = f"arn:aws:iam::{ACCOUNT}:role/other"
    phantom = vault.mint_for(one.id, real, role_arn=role)
    assert vault.mint_for(one.id, real, role_arn=role) == phantom
    assert isinstance(phantom, Phantom) and phantoms.is_phantom(phantom.access_key_id)
    assert (len(phantom.secret_access_key), len(phantom.session_token)) == (40, len(real.session_token))
    session_id, same, found = vault.by_key(phantom.access_key_id)
    assert (session_id, same) == (one.id, phantom)
    assert (found.credentials, found.role_arn, found.accounts, found.account) == (real, role, lease.accounts, ACCOUNT)
    assert found.expires == 99.0
    assert real.secret_access_key in vault.secrets()
    assert vault.by_key(one.phantom.access_key_id) is None
    for i in range(300):
        vault.mint_for(one.id, replace(real, access_key_id=f"ASIA{i:016d}"))
    assert len(vault._derived._by_key) <= 256 and vault.by_key(phantom.access_key_id) is None
    unknown = vault.mint_for("no lease yet", real)
    assert vault.by_key(unknown.access_key_id)[2].accounts == ()


async def test_an_answer_is_swapped_in_one_step(stub, make):
    """What the agent gets are phantoms; a call with them finds the real ones, and the role they are of."""
    vault, one = make(), session()
    await vault.lease(one)
    real = Credentials("ASIA" + "C" * 16, secrets.token_urlsafe(30), secrets.token_urlsafe(300))
    body = (
        f"<AssumeRoleResponse><AssumeRoleResult><AssumedRoleUser><Arn>arn:aws:sts::{ACCOUNT}:assumed-role/x/y</Arn>"
        f"</AssumedRoleUser><Credentials><AccessKeyId>{real.access_key_id}</AccessKeyId><SecretAccessKey>"
        f"{real.secret_access_key}</SecretAccessKey><SessionToken>{real.session_token}</SessionToken></Credentials>"
        f"</AssumeRoleResult></AssumeRoleResponse>"
    ).encode()
    out, count = vault.swap(one.id, Operation("sts", "AssumeRole"), "text/xml", body)
    key_id = out.split(b"<AccessKeyId>")[1].split(b"<")[0].decode()
    assert count == 1 and phantoms.is_phantom(key_id)
    session_id, phantom, lease = vault.by_key(key_id)
    assert (session_id, lease.credentials, lease.role_arn) == (one.id, real, f"arn:aws:iam::{ACCOUNT}:role/x")
    assert phantom.secret_access_key.encode() in out
    for text in vault.secrets():
        assert text.encode() not in out
    assert vault.swap(one.id, Operation("s3", "GetObject"), "text/xml", body) == (body, 0)


async def test_no_secret_in_any_log(stub, make, caplog):
    """botocore logs whole answers at DEBUG, and mitmproxy's event log takes everything: not here."""
    caplog.set_level(logging.DEBUG)
    vault = make()
    await vault.lease(session())
    stub.failing = Refused("AccessDenied", "no")
    with pytest.raises(Refusal):
        await vault.lease(session())
    assert len(vault.secrets()) == 2
    for text in [*vault.secrets(), stub.base[1]]:
        assert text not in caplog.text


async def test_sandbox(stub, monkeypatch, tmp_path):
    """With a sandbox, real sources are never read: keys are random, STS is the sandbox's."""
    config = tmp_path / "config"
    config.write_text("[profile real]\ncredential_process = touch " + str(tmp_path / "asked"))
    for name, value in {
        "AWS_CONFIG_FILE": str(config),
        "AWS_PROFILE": "real",
        "AWS_ACCESS_KEY_ID": "AKIA" + "R" * 16,
        "AWS_SECRET_ACCESS_KEY": "r" * 40,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    own = replace(RULE, groups=frozenset({"sandbox"}), assume_role=(), source="gateway")
    vault = Vault(CredentialRules((own, RULE)), sandbox_url=stub.url)
    vault.refuse = "only a sandbox"
    base = vault._source._base
    stub.keys[base.access_key_id] = replace(stub.keys[stub.base[0]], secret=base.secret_access_key)
    lease = await vault.lease(session())
    assert lease.credentials.access_key_id in stub.keys and lease.account == ACCOUNT
    first, second = await vault.lease(session(groups=("sandbox",))), await vault.lease(session(groups=("sandbox",)))
    assert first.credentials.secret_access_key != second.credentials.secret_access_key
    assert first.account == ACCOUNT and first.credentials.session_token
    assert "r" * 40 not in repr(vault.secrets()) and not (tmp_path / "asked").exists()
    vault.close()
    assert vault.secrets() == [base.secret_access_key]


async def test_moto_as_a_sandbox():
    """The sandbox of the demo: moto's STS gives leases, and takes what is signed with them."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        vault = Vault(CredentialRules((RULE,)), sandbox_url=f"http://{host}:{port}")
        leases = await asyncio.gather(vault.lease(session("alice")), vault.lease(session("bob")))
        lent = leases[1].credentials
        client = sts.client(BOTO, "us-east-1", lent, f"http://{host}:{port}")
        identity = await asyncio.to_thread(client.get_caller_identity)
        assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/developer/bob"
        assert len({lease.credentials.secret_access_key for lease in leases}) == 2
        vault.close()
    finally:
        server.stop()


async def test_own_credentials_of_a_source(stub, make, monkeypatch, tmp_path):
    """Without a role the source's credentials are used, if they are of an account that the entry names."""
    key, secret = stub.base
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    own = replace(RULE, assume_role=())
    vault = make(own)
    lease = await vault.lease(session())
    assert (lease.credentials.access_key_id, lease.account, lease.role_arn) == (key, ACCOUNT, "")
    assert 0 < lease.expires - Clock()() <= 900 and secret in vault.secrets()
    answer = {"Version": 1, "AccessKeyId": key, "SecretAccessKey": secret}
    answer["Expiration"] = (datetime.now(UTC) + timedelta(seconds=700)).isoformat()
    (tmp_path / "answer").write_text(json.dumps(answer))
    (tmp_path / "config").write_text(f"[profile short]\ncredential_process = cat {tmp_path / 'answer'}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    lease = await make(replace(own, source="short")).lease(session())
    assert 600 < lease.expires - Clock()() <= 700  # the source's own end
    with pytest.raises(Refusal, match=f"of account {ACCOUNT}"):
        await make(replace(own, accounts=(OTHER,))).lease(session())


@pytest.mark.parametrize(
    ("partition", "region", "asked"),
    [
        ("aws", "", "us-east-1"),
        ("aws-cn", "", "cn-north-1"),
        ("aws-us-gov", "", "us-gov-west-1"),
        ("aws", "eu-west-1", "eu-west-1"),
    ],
)
async def test_partitions(partition, region, asked):
    """STS is asked in the role's partition, or where the entry says."""
    seen = []

    def factory(_profile, where, _credentials, _endpoint):
        seen.append(where)
        raise RuntimeError

    role = f"arn:{partition}:iam::{ACCOUNT}:role/r"
    vault = Vault(
        CredentialRules((replace(RULE, assume_role=(role,), partition=partition, region=region),)),
        client_factory=factory,
    )
    with pytest.raises(Refusal):
        await vault.lease(session())
    assert seen == [asked]


async def test_chains_at_the_same_time(stub, make):
    """Many sessions through a chain of roles at once."""
    last = f"arn:aws:iam::{ACCOUNT}:role/target"
    some = [session(f"user{i}") for i in range(12)]
    stub.roles[last] = Role(last, {f"arn:aws:sts::{ACCOUNT}:assumed-role/developer/user{i}" for i in range(12)})
    vault = make(replace(RULE, assume_role=(ROLE, last)))
    leases = await asyncio.gather(*map(vault.lease, some))
    assert len({lease.credentials.access_key_id for lease in leases}) == 12


async def test_the_gateways_own_chain(stub, monkeypatch, tmp_path):
    """boto3's chain as it is: environment, then a profile that assumes a role by itself; errors in its own words."""
    key, secret = stub.base
    config = tmp_path / "config"
    config.write_text(
        f"[profile base]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\nregion = us-east-1\n"
        "[profile old]\nsso_start_url = https://x.awsapps.com/start\nsso_region = us-east-1\n"
        f"sso_account_id = {ACCOUNT}\nsso_role_name = r\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", stub.url)
    monkeypatch.setenv("HOME", str(tmp_path))
    rules = [replace(RULE, source=name, groups=frozenset({name})) for name in ("gateway", "base", "old", "missing")]
    vault = Vault(CredentialRules(tuple(rules)))
    lease = await vault.lease(session(groups=("base",)))
    assert lease.credentials.access_key_id in stub.keys
    for group, words in (("gateway", "Unable to locate"), ("old", "SSO"), ("missing", "could not be found")):
        with pytest.raises(Refusal, match=words) as refused:
            await vault.lease(session(groups=(group,)))
        assert refused.value.status == 503
    vault.close()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    vault = Vault(CredentialRules(tuple(rules)))
    assert await vault.lease(session(groups=("gateway",)))
    vault.close()


def test_permits_is_strict():
    """The judge itself: an unknown operator or a policy without an allow never permits."""
    assert permits([], "s3:GetObject", {})
    deny = json.loads('{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}')
    assert not permits([deny], "s3:GetObject", {})
    with pytest.raises(ValueError):
        permits([{"Statement": [{"Effect": "Deny", "Action": "*", "Condition": {"Like": {"a": "b"}}}]}], "x:y", {})
