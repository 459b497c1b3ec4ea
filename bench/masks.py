"""Precision and recall of the shipped masks over made answers, by rule: `make bench-masks`."""

from __future__ import annotations

import base64
import gzip
import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).parent))
import corpus
from corpus import Answer
from flowwarden.errors import Refusal
from flowwarden.masking import frames, rules
from flowwarden.masking.masker import Masker
from flowwarden.masking.model import Masked

RULES = Path(__file__).parents[1] / "rules" / "masks.yaml"
CLEAN = 10_000


def _running_text(answer: Answer, body: bytes) -> str:
    if answer.carrier.startswith("sse"):
        events = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
        return "".join(event["choices"][0]["delta"]["content"] for event in events)
    return "".join(json.loads(frame.payload)["delta"]["text"] for frame in frames.Reader().feed(body))


def readable(answer: Answer, masked: Masked) -> str:
    """All that an agent could read in an answer, its encodings undone."""
    body = gzip.decompress(masked.body) if answer.carrier.endswith("/gzip") else masked.body
    if answer.carrier.startswith(("sse", "events")):
        return _running_text(answer, body)
    text = body.decode("utf-8", "replace") + " ".join(value.decode("latin-1") for _, value in masked.headers)
    text = text.replace('\\"', '"').replace("\\\\", "\\")
    views = [text, unquote(text)]
    for run in text.replace('"', " ").replace("<", " ").replace(">", " ").split():
        if len(run) >= 24 and answer.carrier.endswith("/base64"):
            try:
                views.append(base64.b64decode(run + "=" * (-len(run) % 4)).decode("latin-1"))
            except ValueError:
                continue
    return "\n".join(views)


def run(masker: Masker, masks: list[object], clean: int = CLEAN) -> dict[str, object]:
    """Counts by rule: answers, secrets found, and false alarms in clean answers."""
    total: Counter[str] = Counter()
    found: Counter[str] = Counter()
    missed: dict[str, list[str]] = defaultdict(list)
    for answer in corpus.secrets(masks):  # type: ignore[arg-type]
        total[answer.mask] += 1
        try:
            out = masker.mask_answer(answer.call, 200, answer.headers, answer.body)
        except Refusal as refusal:
            missed[answer.mask].append(f"{answer.carrier}: {refusal.code}")
            continue
        if out.counts and not any(secret in readable(answer, out) for secret in answer.secrets):
            found[answer.mask] += 1
        else:
            missed[answer.mask].append(answer.carrier)
    alarms: Counter[str] = Counter()
    wrong: list[tuple[str, str, str]] = []
    for answer in corpus.clean(clean):
        out = masker.mask_answer(answer.call, 200, answer.headers, answer.body)
        if out.counts:
            alarms.update(out.counts.keys())
            wrong.append((answer.carrier, ",".join(out.counts), out.body[:300].decode("utf-8", "replace")))
    return {"total": total, "found": found, "missed": missed, "alarms": alarms, "wrong": wrong, "clean": clean}


def measure(clean: int = CLEAN) -> dict[str, float]:
    """recall, least recall of a rule, false positives per 10,000 clean answers, precision, answers, seconds."""
    return summary(_run(clean)[1])


def _run(clean: int) -> tuple[float, dict[str, object]]:
    loaded = rules.load(RULES)
    masks = [mask for mask in loaded.masks if mask.pattern and mask.hits and mask.kind == "secret"]
    started = time.perf_counter()
    results = run(loaded.for_groups(frozenset()), list(masks), clean)
    return time.perf_counter() - started, results


def summary(results: dict[str, object]) -> dict[str, float]:
    total, found, wrong = results["total"], results["found"], results["wrong"]
    assert isinstance(total, Counter) and isinstance(found, Counter) and isinstance(wrong, list)
    clean = int(str(results["clean"]))
    return {
        "mask_answers": float(total.total() + clean),
        "mask_recall": found.total() / max(1, total.total()),
        "mask_recall_of_worst_rule": min(found[name] / total[name] for name in total),
        "mask_false_positives_per_10k": len(wrong) * 10_000 / max(1, clean),
        "mask_precision": found.total() / max(1, found.total() + len(wrong)),
    }


def main() -> None:
    seconds, results = _run(CLEAN)
    total, found, missed, alarms = results["total"], results["found"], results["missed"], results["alarms"]
    assert isinstance(total, Counter) and isinstance(found, Counter)
    assert isinstance(missed, dict) and isinstance(alarms, Counter)
    print(f"{'rule':34} {'answers':>8} {'recall':>7} {'precision':>10}  missed in")
    for name in sorted(total):
        precision = found[name] / max(1, found[name] + alarms[name])
        where = ", ".join(missed[name][:3]) if missed[name] else ""
        print(f"{name:34} {total[name]:8} {found[name] / total[name]:7.3f} {precision:10.4f}  {where}")
    wrong = results["wrong"]
    assert isinstance(wrong, list)
    print("false positives:", dict(Counter((carrier, names) for carrier, names, _ in wrong)))
    for carrier, names, body in wrong[:8]:
        print(f"false positive in {carrier}: {names}: {body[:160]}")
    for name, value in summary(results).items():
        print(f"{name:34} {value:12.4f}")
    print(f"{'seconds':34} {seconds:12.1f}")


if __name__ == "__main__":
    main()
