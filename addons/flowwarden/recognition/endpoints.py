"""Turns botocore's endpoint rules into a table of host forms. Runs when the cache is built.

A host form is a host with its variable parts in braces: `{Region}` is a region, `{Global}` the partition's implicit global
region, `{*}` anything within a label. It ends in `/D` (the partition's DNS suffix), `/S` (its dual-stack suffix) or is
literal to its end. Sources: endpoint-rule-set-1.json of every service, endpoints.json (older SDKs still use its hosts).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from . import models

Table = dict[str, Any]
HAND_MADE = ("s3", "s3control")  # their host forms carry parameters; see s3hosts.py

_SUFFIX = re.compile(r"\{\w*artition(?:Result)?#(dnsSuffix|dualStackDnsSuffix)\}$")
_HOST_PREFIX = re.compile(r'"hostPrefix"\s*:\s*"([^"]*)"')
_OPERATION_TYPE = re.compile(r'"OperationType"\s*:\s*\{\s*"value"\s*:\s*"([^"]*)"')
_VARIABLE = re.compile(r"\{(?!Region\}|Global\})[^}]*\}")


def build_index() -> Table:
    """The table that knows every host: partitions, host forms with their services, and what each service is signed as."""
    partitions = _partitions()
    suffixes = {suffix: kind for part in partitions for kind, suffix in (("D", part["dns"]), ("S", part["dual"]))}
    forms: dict[str, dict[str, Table]] = {}
    services: Table = {}
    by_prefix: dict[str, list[str]] = {}
    for name in models.service_names():
        meta = _metadata(name)
        services[name] = meta
        by_prefix.setdefault(meta["endpoint"], []).append(name)
        if name not in HAND_MADE:
            for form, entry in _forms(name, meta, suffixes):
                _add(forms, form, name, entry)
    modern = frozenset(forms)
    for form, endpoint, region in _legacy(suffixes):
        if form in modern:  # the rules know better: `bedrock` once listed the hosts of bedrock-runtime
            continue
        for name in by_prefix.get(endpoint, ()):
            if name not in HAND_MADE:
                _add(forms, form, name, {"regions": [region] if region else []})
    return {"partitions": partitions, "forms": forms, "services": services}


def _add(forms: dict[str, dict[str, Table]], form: str, name: str, entry: Table) -> None:
    found = forms.setdefault(form, {}).setdefault(name, {})
    for key in ("signing", "regions"):
        merged = sorted(set(found.get(key, ())) | set(entry.get(key, ())))
        if merged:
            found[key] = merged
    if entry.get("prefix"):
        found["prefix"] = entry["prefix"]


def _partitions() -> list[Table]:
    data = models.load_json("partitions")
    return [
        {
            "id": part["id"],
            "dns": part["outputs"]["dnsSuffix"],
            "dual": part["outputs"]["dualStackDnsSuffix"],
            "implicit": part["outputs"]["implicitGlobalRegion"],
            "regions": part["regionRegex"],
        }
        for part in data["partitions"]
    ]


def _metadata(name: str) -> Table:
    """What a service's model says of the service itself. The model is searched, not parsed: that is five times as fast."""
    raw = models.load_text(name, "service-2")
    metadata, _ = json.JSONDecoder().raw_decode(raw, raw.index("{", raw.index('"metadata"')))
    return {
        "endpoint": metadata["endpointPrefix"],
        "signing": metadata.get("signingName") or metadata["endpointPrefix"],
        "protocols": metadata.get("protocols") or [metadata["protocol"]],
        "operations": raw.count('"requestUri"'),
        "prefixes": sorted(set(_HOST_PREFIX.findall(raw))),
        "types": sorted(set(_OPERATION_TYPE.findall(raw))),
    }


def _forms(name: str, meta: Table, suffixes: dict[str, str]) -> Iterator[tuple[str, Table]]:
    for url, schemes in _endpoints(models.load(name, "endpoint-rule-set-1").get("rules", [])):
        authority = url.partition("://")[2].partition("/")[0]
        if not authority or "url#" in authority or authority.startswith("{Endpoint}") or "localhost" in authority:
            continue
        entry = {
            "signing": [scheme["signingName"] for scheme in schemes if scheme.get("signingName")],
            "regions": sorted(
                {scheme["signingRegion"] for scheme in schemes if "{" not in scheme.get("signingRegion", "{")}
            ),
        }
        for kind in meta["types"] or [""]:
            form = normalise(authority.replace("{OperationType}", kind), suffixes)
            yield form, entry
            for prefix in meta["prefixes"]:
                yield _VARIABLE.sub("{*}", prefix) + form, {**entry, "prefix": prefix}


def _endpoints(rules: list[Table]) -> Iterator[tuple[str, list[Table]]]:
    for rule in rules:
        if rule["type"] == "tree":
            yield from _endpoints(rule["rules"])
        elif rule["type"] == "endpoint" and isinstance(rule["endpoint"]["url"], str):
            yield rule["endpoint"]["url"], rule["endpoint"].get("properties", {}).get("authSchemes") or []


def normalise(authority: str, suffixes: dict[str, str]) -> str:
    """A template of the endpoint rules as a host form."""
    text = re.sub(r"\{\w*artition(?:Result)?#implicitGlobalRegion\}", "{Global}", authority)
    matched = _SUFFIX.search(text)
    if matched:
        text = text[: matched.start()].rstrip(".") + ("/D" if matched[1] == "dnsSuffix" else "/S")
    else:
        for suffix in sorted(suffixes, key=len, reverse=True):
            if text.endswith("." + suffix):
                text = text[: -len(suffix) - 1] + "/" + suffixes[suffix]
                break
    return _VARIABLE.sub("{*}", text)


def _legacy(suffixes: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """(form, endpoint prefix, signing region) of each host that endpoints.json names."""
    data = models.load_json("endpoints")
    for part in data["partitions"]:
        is_region = re.compile(part["regionRegex"])
        for endpoint, spec in part["services"].items():
            for region, details in spec.get("endpoints", {}).items():
                merged = {**spec.get("defaults", {}), **details}
                signing = merged.get("credentialScope", {}).get("region", "")
                variants = [(v.get("hostname"), v.get("dnsSuffix")) for v in merged.get("variants", ())]
                hosts = [merged.get("hostname"), merged.get("sslCommonName")]
                for host, suffix in [(host, None) for host in hosts] + variants:
                    if host and ":" not in host:
                        full = host.replace("{service}", endpoint).replace("{dnsSuffix}", suffix or part["dnsSuffix"])
                        form = ".".join(
                            "{Region}" if is_region.match(label) else label
                            for label in full.replace("{region}", region).split(".")
                        )
                        fixed = "{Region}" not in form
                        yield normalise(form, suffixes), endpoint, signing if fixed else ""


def dump(index: Table) -> bytes:
    """The index as compact JSON."""
    return json.dumps(index, separators=(",", ":"), sort_keys=True).encode()
