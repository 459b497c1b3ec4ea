"""Hosts: what botocore's own endpoint rules give in every partition and variant, and what nobody's rules give."""

from __future__ import annotations

import pytest
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import BotoCoreError

from flowwarden.recognition import models
from flowwarden.recognition.recogniser import Recogniser
from flowwarden.types import Request

REGIONS = {
    "us-east-1": "aws",
    "eu-central-2": "aws",
    "us-gov-west-1": "aws-us-gov",
    "cn-northwest-1": "aws-cn",
    "us-iso-east-1": "aws-iso",
    "us-isob-east-1": "aws-iso-b",
    "eu-isoe-west-1": "aws-iso-e",
    "us-isof-south-1": "aws-iso-f",
    "eusc-de-east-1": "aws-eusc",
}
VARIANTS = [(False, False), (True, False), (False, True), (True, True)]

ONE_FOR_ALL = {"pricingplanmanager.us-east-1.api.aws"}  # the rules name this one host in every partition


def scope_region(endpoint: object, region: str) -> str:
    """The region that the endpoint's own authentication schemes sign for."""
    for scheme in getattr(endpoint, "properties", {}).get("authSchemes", ()):
        if "signingRegion" in scheme:
            return str(scheme["signingRegion"])
    return region


@pytest.mark.parametrize("region", REGIONS)
def test_every_endpoint_of_the_rules_is_known(region: str, recogniser: Recogniser) -> None:
    """Each host that the rules give for a service in a region, FIPS and dual-stack included, is that service's, there."""
    partitions = models.load_json("partitions")
    wrong = []
    for service in models.service_names():
        provider = EndpointProvider(models.load(service, "endpoint-rule-set-1"), partitions)
        for fips, dual in VARIANTS:
            try:
                endpoint = provider.resolve_endpoint(Region=region, UseFIPS=fips, UseDualStack=dual)
            except BotoCoreError:
                continue  # the rules refuse this combination, or need parameters of an operation
            name = endpoint.url.partition("://")[2].partition("/")[0]
            host = recogniser.hosts.find(name)
            if host is None or service not in host.services or host.owned:
                wrong.append(f"{service}: {name} is {host}")
                continue
            signs = scope_region(endpoint, region)
            if host.region and host.partition != REGIONS[region] and name not in ONE_FOR_ALL:
                wrong.append(f"{service}: {name} is in {host.partition}")
            if not recogniser.hosts.may_sign(host, signs):
                wrong.append(
                    f"{service}: {name} may not be signed for {signs}, but {host.region} {sorted(host.regions)}"
                )
    assert wrong == []


KINDS = {
    "bucket.s3.eu-west-1.amazonaws.com": ("s3", {"Bucket": "bucket"}),
    "my.dotted.bucket.s3.eu-west-1.amazonaws.com": ("s3", {"Bucket": "my.dotted.bucket"}),
    "s3.eu-west-1.amazonaws.com": ("s3", {}),
    "s3.dualstack.eu-west-1.amazonaws.com": ("s3", {}),
    "b.s3.dualstack.eu-west-1.amazonaws.com": ("s3", {"Bucket": "b"}),
    "s3-fips.us-gov-west-1.amazonaws.com": ("s3", {}),
    "b.s3-fips.dualstack.us-east-1.amazonaws.com": ("s3", {"Bucket": "b"}),
    "s3-eu-west-1.amazonaws.com": ("s3", {}),
    "b.s3-eu-west-1.amazonaws.com": ("s3", {"Bucket": "b"}),
    "s3.amazonaws.com": ("global", {}),
    "b.s3.amazonaws.com": ("global", {"Bucket": "b"}),
    "s3-external-1.amazonaws.com": ("global", {}),
    "b.s3.cn-north-1.amazonaws.com.cn": ("s3", {"Bucket": "b"}),
    "b.s3.us-iso-east-1.c2s.ic.gov": ("s3", {"Bucket": "b"}),
    "b.s3-accelerate.amazonaws.com": ("accelerate", {"Bucket": "b"}),
    "b.s3-accelerate.dualstack.amazonaws.com": ("accelerate", {"Bucket": "b"}),
    "ap-123456789012.s3-accesspoint.eu-west-1.amazonaws.com": (
        "accesspoint",
        {"Bucket": "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap"},
    ),
    "mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com": (
        "mrap",
        {"Bucket": "arn:aws:s3:::accesspoint/mfzwi23gnjvgw.mrap"},
    ),
    "ap-123456789012.op-01ac5d28a6a232904.s3-outposts.eu-west-1.amazonaws.com": (
        "outposts",
        {"Bucket": "arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-01ac5d28a6a232904/accesspoint/ap"},
    ),
    "fn-123456789012.s3-object-lambda.eu-west-1.amazonaws.com": (
        "object-lambda",
        {"Bucket": "arn:aws:s3-object-lambda:eu-west-1:123456789012:accesspoint/fn"},
    ),
    "io-cell1-route.s3-object-lambda.eu-west-1.amazonaws.com": (
        "object-lambda-route",
        {"RequestRoute": "io-cell1-route"},
    ),
    "b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com": ("express", {"Bucket": "b--use1-az4--x-s3"}),
    "s3express-control.us-east-1.amazonaws.com": ("express-control", {}),
    "123456789012.s3-control.eu-west-1.amazonaws.com": ("control", {"AccountId": "123456789012"}),
    "123456789012.s3-control.dualstack.eu-west-1.amazonaws.com": ("control", {"AccountId": "123456789012"}),
    "s3-outposts.eu-west-1.amazonaws.com": ("outposts-control", {}),
    "bucket.vpce-0a1b2c3d-4e5f6a7b.s3.eu-west-1.vpce.amazonaws.com": ("s3", {}),
    "b.bucket.vpce-0a1b2c3d-4e5f6a7b.s3.eu-west-1.vpce.amazonaws.com": ("s3", {"Bucket": "b"}),
    "ap-123456789012.accesspoint.vpce-0a1b2c3d-4e5f6a7b.s3.eu-west-1.vpce.amazonaws.com": (
        "accesspoint",
        {"Bucket": "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap"},
    ),
    "123456789012.control.vpce-0a1b2c3d-4e5f6a7b.s3.eu-west-1.vpce.amazonaws.com": (
        "control",
        {"AccountId": "123456789012"},
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_s3_hosts(name: str, recogniser: Recogniser) -> None:
    """S3's hosts carry bucket, access point, account; a region anywhere but in its place is not taken for one."""
    host = recogniser.hosts.find(name)
    assert host is not None and not host.owned and ("s3" in host.services or "s3control" in host.services)
    assert (host.kind, host.params) == KINDS[name]


SERVICES = {
    "vpce-0a1b2c3d-4e5f6a7b.ec2.eu-west-1.vpce.amazonaws.com": "ec2",
    "vpce-0a1b2c3d-4e5f6a7b-eu-west-1a.sts.eu-west-1.vpce.amazonaws.com": "sts",
    "a1b2c3d4e5f6g7-ats.iot.eu-west-1.amazonaws.com": "iot-data",
    "a1b2c3d4e5f6g7.jobs.iot.eu-west-1.amazonaws.com": "iot-jobs-data",
    "123456789012.ddb.eu-west-1.amazonaws.com": "dynamodb",
    "eu-west-1.queue.amazonaws.com": "sqs",
    "data-servicediscovery.eu-west-1.amazonaws.com": "servicediscovery",
    "sync-states.eu-west-1.amazonaws.com": "stepfunctions",
    "api.iotsitewise.eu-west-1.amazonaws.com": "iotsitewise",
    "iam.amazonaws.com": "iam",
    "iam.us-gov.amazonaws.com": "iam",
    "iam.cn-north-1.amazonaws.com.cn": "iam",
    "sts.amazonaws.com": "sts",
    "route53.amazonaws.com": "route53",
    "email.eu-west-1.amazonaws.com": "sesv2",
    "ec2.eu-west-1.api.aws": "ec2",
}


@pytest.mark.parametrize("name", SERVICES)
def test_other_hosts(name: str, recogniser: Recogniser) -> None:
    """VPC endpoints, account-prefixed hosts, host prefixes, legacy and global hosts."""
    host = recogniser.hosts.find(name)
    assert host is not None and SERVICES[name] in host.services and not host.owned


ANYBODYS = [
    "abcdef1234.execute-api.eu-west-1.amazonaws.com",
    "abcdefghijklmnopqrstuvwxyz.lambda-url.eu-west-1.on.aws",
    "abcdefghijklmnop.appsync-api.eu-west-1.amazonaws.com",
    "search-mine-abcdefghij.eu-west-1.es.amazonaws.com",
    "vpc-mine-abcdefghij.eu-west-1.es.amazonaws.com",
    "abcdefghij.eu-west-1.aoss.amazonaws.com",
    "my-balancer-123456.eu-west-1.elb.amazonaws.com",
    "my-balancer-0123456789abcdef.elb.eu-west-1.amazonaws.com",
    "ec2-192-0-2-1.compute-1.amazonaws.com",
    "ec2-192-0-2-1.eu-west-1.compute.amazonaws.com",
    "mine.abcdefg.eu-west-1.rds.amazonaws.com",
    "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
    "bucket.s3-website-eu-west-1.amazonaws.com",
    "bucket.s3-website.eu-central-1.amazonaws.com",
    "vpce-0a1b2c3d-4e5f6a7b.vpce-svc-0123456789abcdef0.eu-west-1.vpce.amazonaws.com",
    "search-mine.eu-west-1.cloudsearch.amazonaws.com",
]


@pytest.mark.parametrize("name", ANYBODYS)
def test_hosts_that_anybody_can_own_are_not_aws(
    name: str, recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are AWS's only where a rule names them exactly, and even then no operation is made of them."""
    call = recogniser.recognise(Request("GET", "https", name, 443, "/"))
    assert (call.aws, call.operation) == (False, None)
    monkeypatch.setattr(recogniser, "extra_hosts", frozenset((name,)))
    call = recogniser.recognise(Request("GET", "https", name, 443, "/"))
    assert (call.aws, call.operation) == (True, None)


@pytest.mark.parametrize(
    "name",
    [
        "example.com", "amazonaws.com", "amazonaws.com.evil.example", "s3.amazonaws.com.evil.example", "s3.amazonaws.co",
        "xs3.eu-west-1.amazonaws.com.attacker.net", "s3-eu-west-1.amazonaws.com.example", "169.254.169.254", "[::1]",
        "0x7f.1", "s3.eu-west-1.amazonaws.com\x00.example", "s3..amazonaws.com", "évil.s3.amazonaws.com", "", "." * 300,
        "a" * 300 + ".s3.amazonaws.com",
    ],
)  # fmt: skip
def test_names_that_are_not_aws(name: str, recogniser: Recogniser) -> None:
    """A look-alike is no AWS host, and nothing in it can raise."""
    call = recogniser.recognise(Request("GET", "https", name, 443, "/"))
    assert (call.aws, call.operation) == (False, None)


@pytest.mark.parametrize(
    "name", ["brandnew.eu-west-1.amazonaws.com", "brandnew.amazonaws.com", "brandnew.us-east-1.api.aws"]
)
def test_an_unknown_service_on_an_aws_host(name: str, recogniser: Recogniser) -> None:
    """It counts as AWS, so that no rule for plain HTTPS lets it pass, and has no operation, so that nothing else does."""
    call = recogniser.recognise(Request("POST", "https", name, 443, "/"))
    assert (call.aws, call.operation, call.actions) == (True, None, ())


@pytest.mark.parametrize(
    "name", ["STS.amazonaws.com", "sts.amazonaws.com.", "sts.amazonaws.com:443", "Sts.Amazonaws.Com.:8443"]
)
def test_spellings_of_a_host(name: str, recogniser: Recogniser) -> None:
    """Callers normalise hosts; should one forget, an AWS host is still one."""
    host = recogniser.hosts.find(name)
    assert host is not None and host.services == ("sts",)
