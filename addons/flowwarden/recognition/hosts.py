"""Which AWS services a host stands for, by the table of endpoints.py."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any

from . import s3hosts

_CACHE_SIZE = 4096

# Names that anybody can get under AWS's domains: never AWS by themselves. The second part is what such a host is signed as.
_OWNED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), signing)
    for pattern, signing in (
        (r"[a-z0-9-]+\.execute-api\..+", "execute-api"),
        (r"[a-z0-9]+\.lambda-url\..+", "lambda"),
        (r"[a-z0-9]+\.(?:ddpg-)?appsync(?:-realtime)?-api\..+", "appsync"),
        (r"(?:search|vpc)-.+\.es|.+\.aos", "es"),
        (r".+\.aoss", "aoss"),
        (r"(?:search|doc)-.+\.cloudsearch", "cloudsearch"),
        (r".+\.vpc-lattice-svcs\..+", "vpc-lattice-svcs"),
        (
            r".+\.(?:elb|elasticbeanstalk|rds|cache|redshift|redshift-serverless|mq|kafka|kafka-serverless|docdb|neptune|memorydb|dax)",
            "",
        ),
        (r".+\.(?:elb|rds|cache|redshift|compute|compute-1|dkr\.ecr|d\.codeartifact|transfer|eks|dms|fsx)\..+", ""),
        (r".+\.(?:compute|compute-1|vpce|elasticbeanstalk|sslip)", ""),
        (r"(?:ec2|ip)-[0-9-]+\..+", ""),
    )
)
# Hosts that a service hands out to one account; they run AWS's own code, so a signature is safe with them.
_ACCOUNT_FORMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("{*}.jobs.iot.{Region}", ("iot-jobs-data",)),
    ("{*}.iot.{Region}", ("iot-data",)),
    ("{*}.mediaconvert.{Region}", ("mediaconvert",)),
    ("ingest-{*}.timestream.{Region}", ("timestream-write",)),
    ("query-{*}.timestream.{Region}", ("timestream-query",)),
    ("realtime.machinelearning.{Region}", ("machinelearning",)),
    ("{*}.data.mediastore.{Region}", ("mediastore-data",)),
    (
        "{*}.kinesisvideo.{Region}",
        (
            "kinesis-video-archived-media",
            "kinesis-video-media",
            "kinesis-video-signaling",
            "kinesis-video-webrtc-storage",
        ),
    ),
)
_OTHER_DOMAINS = ("on.aws",)


@dataclass(frozen=True, slots=True)
class Host:
    """What a host stands for.

    `services` are botocore's names, empty where the host is in AWS's domains but in no endpoint rule. `region` is empty where
    only the credential scope can tell. `regions` is what the scope may name, empty: the host's own. `owned`: a name that
    anybody can get. `params` are parameters that the host's name carries, `prefixes` the operation's host prefix by service.
    """

    services: tuple[str, ...]
    partition: str
    region: str = ""
    regions: frozenset[str] = frozenset()
    signing: frozenset[str] = frozenset()
    owned: bool = False
    kind: str = ""
    params: dict[str, str] = field(default_factory=dict)
    prefixes: dict[str, str] = field(default_factory=dict)


class Hosts:
    """Finds hosts and regions, and remembers the last few thousand."""

    def __init__(self, index: dict[str, Any]) -> None:
        self._forms: dict[str, dict[str, Any]] = index["forms"]
        self._services: dict[str, dict[str, Any]] = index["services"]
        self._regions = [(part["id"], re.compile(part["regions"])) for part in index["partitions"]]
        self._implicit = {part["id"]: part["implicit"] for part in index["partitions"]}
        domains: dict[str, tuple[str, str]] = {}
        for part in index["partitions"]:
            domains.setdefault(part["dns"], ("D", part["id"]))
            domains.setdefault(part["dual"], ("S", part["id"]))
        self._domains = sorted(
            ((f".{name}", kind, part) for name, (kind, part) in domains.items()), key=lambda d: -len(d[0])
        )
        dns = {part["id"]: part["dns"] for part in index["partitions"]}
        self._siblings = {one: {other for other in dns if dns[other] == dns[one]} for one in dns}
        self._patterns = [(_pattern(form), form) for form in self._forms if "{*}" in form]
        self._accounts = [(_pattern(form), names) for form, names in _ACCOUNT_FORMS]
        self._known: dict[str, Host | None] = {}
        self._partitions: dict[str, str] = {}  # by region

    def find(self, host: str) -> Host | None:
        """The host's services; None for a host that is not AWS's. `host` is lower case without port or trailing dot."""
        try:
            return self._known[host]
        except KeyError:
            pass
        found = self._find(_normal(host))
        if len(self._known) >= _CACHE_SIZE:
            self._known.clear()
        self._known[host] = found
        return found

    def partition(self, region: str) -> str:
        """The partition of a region; empty where no partition has such a region."""
        found = self._partitions.get(region)
        if found is None:
            found = next((name for name, pattern in self._regions if pattern.match(region)), "")
            if len(self._partitions) >= _CACHE_SIZE:
                self._partitions.clear()
            self._partitions[region] = found
        return found

    def may_sign(self, host: Host, region: str) -> bool:
        """Whether a credential scope may name this region for this host."""
        if host.regions:
            return region in host.regions
        if host.region:
            return region == host.region
        return self.partition(region) in self._siblings[host.partition]

    def _find(self, host: str) -> Host | None:
        if len(host) > 253 or not _HOST.fullmatch(host) or _is_address(host):
            return None
        for domain, kind, partition in self._domains:
            if host.endswith(domain):
                return self._within(host[: -len(domain)], "/" + kind, partition)
        literal = self._by_form(host, "", "aws")
        if literal:
            return literal
        if any(host.endswith("." + domain) for domain in _OTHER_DOMAINS):
            return self._owned(host, "aws")
        return None

    def _within(self, rest: str, kind: str, partition: str) -> Host:
        inner = s3hosts.vpc_endpoint(rest) if rest.endswith(".vpce") else rest
        if inner is None:
            return Host((), partition, owned=True)
        found = (
            self._s3(inner, partition) or self._by_form(inner, kind, partition) or self._by_account(inner, partition)
        )
        return found or self._owned(inner, partition) or Host((), self._part(inner, partition), self._region(inner))

    def _s3(self, rest: str, partition: str) -> Host | None:
        s3 = s3hosts.parse(rest)
        if s3 is None:
            return None
        part = self.partition(s3.region) if s3.region else partition
        if not part:
            return None
        if s3.kind == "website":
            return Host((), part, s3.region, owned=True)
        params = {key: value.replace("{partition}", part) for key, value in s3.params.items()}
        return Host(s3.service, part, s3.region, signing=frozenset(s3.signing), kind=s3.kind, params=params)

    def _by_form(self, rest: str, kind: str, partition: str) -> Host | None:
        region = self._region(rest)
        part = self.partition(region) if region else partition
        names = [rest + kind]
        if region:
            names.append(_replace(rest, region, "{Region}") + kind)
            if region == self._implicit.get(part):
                names.append(_replace(rest, region, "{Global}") + kind)
        entry: dict[str, Any] = {}
        for name in names:
            for service, details in self._forms.get(name, {}).items():
                entry.setdefault(service, details)
        if not entry:
            form = next((form for pattern, form in self._patterns if pattern.fullmatch(rest + kind)), None)
            entry = self._forms[form] if form else {}
        if not entry:
            return None
        return self._host(entry, part, region)

    def _host(self, entry: dict[str, Any], partition: str, region: str) -> Host:
        signing: set[str] = set()
        regions: set[str] = set()
        for service, details in entry.items():
            signing.update(details.get("signing") or (), (self._services[service]["signing"],))
            regions.update(details.get("regions") or ())
        siblings = self._siblings[partition]
        regions = {
            name
            for name in regions
            if self.partition(name) in siblings and (not region or partition == self.partition(name))
        }
        prefixes = {service: details["prefix"] for service, details in entry.items() if "prefix" in details}
        own = next(iter(regions)) if len(regions) == 1 else region
        allowed = frozenset(regions | ({region} if region else set()))
        partition = self.partition(own) or partition
        return Host(self._order(entry), partition, own, allowed, frozenset(signing), prefixes=prefixes)

    def _order(self, entry: dict[str, Any]) -> tuple[str, ...]:
        """The services of one host, the one with most operations first: rds before docdb and neptune."""
        return tuple(sorted(entry, key=lambda name: (-self._services[name]["operations"], name)))

    def _by_account(self, rest: str, partition: str) -> Host | None:
        for pattern, names in self._accounts:
            if pattern.fullmatch(rest):
                region = self._region(rest)
                signing = frozenset(self._services[name]["signing"] for name in names if name in self._services)
                return Host(names, self.partition(region) or partition, region, signing=signing, kind="account")
        return None

    def _owned(self, rest: str, partition: str) -> Host | None:
        for pattern, signing in _OWNED:
            if pattern.fullmatch(rest):
                region = self._region(rest)
                names = frozenset((signing,)) if signing else frozenset()
                return Host((), self.partition(region) or partition, region, signing=names, owned=True)
        return None

    def _region(self, rest: str) -> str:
        return next((label for label in reversed(rest.split(".")) if self.partition(label)), "")

    def _part(self, rest: str, partition: str) -> str:
        return self.partition(self._region(rest)) or partition


_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)+")


def _normal(host: str) -> str:
    """Lower case, without port and trailing dot. Callers send it so already; a slip of theirs must not hide an AWS host."""
    return re.sub(r":\d{1,5}$", "", host.rpartition("@")[2]).rstrip(".").lower()


def _pattern(form: str) -> re.Pattern[str]:
    text = re.escape(form).replace(r"\{\*\}", "[a-z0-9-]+").replace(r"\{Region\}", r"[a-z]{2,5}(?:-[a-z]+)+-\d+")
    return re.compile(text)


def _replace(rest: str, region: str, name: str) -> str:
    return ".".join(name if label == region else label for label in rest.split("."))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
