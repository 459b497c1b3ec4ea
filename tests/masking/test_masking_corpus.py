"""Recall and false alarms of the shipped rules over made answers; `make bench-masks` prints them by rule."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import masks as bench_masks


def test_masking_recall_and_precision_of_shipped_rules() -> None:
    """Recall of 0.98, of 0.9 for each rule, and one false alarm in 10,000 clean answers at most."""
    clean = 10_000 if os.environ.get("FLOWWARDEN_SOAK") else 2_000
    found = bench_masks.measure(clean)
    assert found["mask_answers"] >= 5_000
    assert found["mask_recall"] >= 0.98
    assert found["mask_recall_of_worst_rule"] >= 0.9
    assert found["mask_false_positives_per_10k"] <= 1
