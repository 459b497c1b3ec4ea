"""What a decision costs, with the shipped rules and with a thousand of several shapes."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from flowwarden.policy import catalogue
from flowwarden.policy.ruleset import RuleSet, load
from flowwarden.types import Action, Call, Operation, Principal, Request

ROOT = Path(__file__).parents[1]
RULES = 1000
_WHO = Principal("https://idp", "dev", agent="coder", groups=frozenset({"developers"}))
_ACCOUNT = "123456789012"


def _rules(lines: list[str]) -> RuleSet:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "policy.yaml").write_text("rules:\n" + "\n".join(lines), encoding="utf-8")
        return load(Path(folder))


def _call(name: str, resource: str, **params: object) -> Call:
    service, _, operation = name.partition(":")
    action = Action(name, catalogue.levels(name))
    return Call(
        aws=True,
        operation=Operation(service, operation),
        region="eu-west-1",
        account=_ACCOUNT,
        actions=(action,),
        params=params,
        resources=(resource,),
    )


def _request(service: str) -> Request:
    return Request("POST", "https", f"{service}.eu-west-1.amazonaws.com", 443, "/")


def _median(rules: RuleSet, calls: list[Call]) -> float:
    """Microseconds a decision, median over calls that follow each other as they come, each call object new to the set."""
    asked = [(call, _request(call.operation.service if call.operation else "")) for call in calls]
    for call, request in asked[: len(asked) // 2]:
        rules.decide(_WHO, call, request, None)
    took = []
    for call, request in asked:
        start = time.perf_counter_ns()
        rules.decide(_WHO, call, request, None)
        took.append((time.perf_counter_ns() - start) / 1000)
    return round(statistics.median(took), 2)


def measure() -> dict[str, float]:
    """Median microseconds a decision by kind of rule set."""
    names = sorted(catalogue.matching("s3:*") + catalogue.matching("ec2:*") + catalogue.matching("iam:*"))
    effects = ("allow", "deny", "approve")

    def mixed(n: int) -> str:
        name, effect = names[n * 7 % len(names)], effects[n % 3]
        more = ("", f", groups: [g{n}]", ", regions: [eu-*]", f", params: {{Name: ['x{n}*']}}")[n % 4]
        return f"  - {{id: r{n}, effect: {effect}, actions: ['{name}'], resources: ['arn:aws:*:*:*:*/r{n}-*']{more}}}"

    def one_action(n: int) -> str:
        return f"  - {{id: r{n}, effect: allow, actions: ['s3:GetObject'], resources: ['arn:aws:s3:::bucket-{n}/*']}}"

    def one_param(n: int) -> str:
        return f"  - {{id: r{n}, effect: deny, actions: ['ec2:*'], params: {{InstanceIds: ['i-{n:06}*']}}}}"

    def no_action(n: int) -> str:
        return f"  - {{id: r{n}, effect: deny, groups: [g{n % 50}], resources: ['arn:aws:s3:::bucket-{n}/*']}}"

    varied = [
        _call(names[n * 3 % len(names)], f"arn:aws:s3:::bucket-{n % 97}/r{n}-x", Name=f"x{n}") for n in range(4000)
    ]
    objects = [_call("s3:GetObject", f"arn:aws:s3:::bucket-{n % RULES}/{n}") for n in range(4000)]
    instances = [
        _call("ec2:RebootInstances", f"arn:aws:ec2:eu-west-1:{_ACCOUNT}:instance/i-{n}", InstanceIds=[f"i-{n:06}"])
        for n in range(400)
    ]
    return {
        "shipped rules": _median(load(ROOT / "rules"), varied),
        "1,000 rules, mixed": _median(_rules([mixed(n) for n in range(RULES)]), varied),
        "1,000 rules on one action, by resource": _median(_rules([one_action(n) for n in range(RULES)]), objects),
        "1,000 rules without action, by resource": _median(_rules([no_action(n) for n in range(RULES)]), objects),
        "1,000 rules on one service, by parameter": _median(_rules([one_param(n) for n in range(RULES)]), instances),
    }


if __name__ == "__main__":
    for key, value in measure().items():
        print(f"{value:10.2f} µs  {key}")
