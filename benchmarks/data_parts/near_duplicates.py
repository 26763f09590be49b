"""Claim: near-duplicate search beats datasketch used directly, at equal or better recall.

Short texts of about 20 words, a tenth of them copies with one word changed. Same character shingles, 128 permutations
and threshold on both sides. datasketch takes what its index returns as similar; ours verifies each pair on the
shingles.
Truth is computed here: a planted copy counts when its Jaccard similarity to its original reaches the threshold; recall
is the share of those that were dropped, and precision the share of dropped texts that have an earlier similar text
among their planted family (the made-up texts are far from similar otherwise).

100,000 texts are a normal run; a million (``--full``) takes datasketch many minutes.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.data_parts import generate
from benchmarks.data_parts.context import Context
from benchmarks.harness import Figure, Measured, Worker, alternate, say, times_faster

OURS = "benchmarks.data_parts.our_cleaning_steps"
PEER = "benchmarks.data_parts.peer_datasketch_steps"
THRESHOLD, SHINGLE_CHARS, PERMUTATIONS = 0.8, 5, 128
LIMIT_S = 1800.0


def run(context: Context) -> dict[str, Figure]:
    """Figures at 100,000 texts, and with ``--full`` at a million."""
    sizes = [(context.pick(100_000, 3_000), "", context.pick(2, 1))] + ([(1_000_000, "_1m", 1)] if context.full else [])
    figures: dict[str, Figure] = {}
    for count, suffix, rounds in sizes:
        folder = context.workspace(f"near_duplicates{suffix}")
        say(f"near duplicates: {count:,} texts, {rounds} rounds")
        texts, pairs = generate.short_texts(count, context.seed)
        found = folder / "texts.json"
        found.write_text(json.dumps(texts), encoding="utf-8")
        measured = _contest(folder, found, rounds)
        truth = {copy for copy, original in pairs if _jaccard(texts[copy], texts[original]) >= THRESHOLD}
        figures |= _figures(measured, folder, truth, {copy for copy, _ in pairs}, count, suffix)
    return figures


def _contest(folder: Path, texts: Path, rounds: int) -> dict[str, Measured]:
    ours_to, theirs_to = str(folder / "ours.json"), str(folder / "datasketch.json")
    shared = {"threshold": THRESHOLD, "shingle_chars": SHINGLE_CHARS, "limit_s": LIMIT_S}
    with Worker(OURS) as ours, Worker(PEER, python=peers.environment("datasketch", peers.DATASKETCH)) as peer:
        ours.run("load", texts=str(texts), table=str(folder / "texts"))
        peer.run("load", texts=str(texts))
        turns = {
            "ours": partial(ours.run, "near_duplicates", output=ours_to, **shared),
            "datasketch": partial(peer.run, "near_duplicates", output=theirs_to, permutations=PERMUTATIONS, **shared),
        }
        return alternate(turns, rounds)


def _figures(
    measured: dict[str, Measured], folder: Path, truth: set[int], planted: set[int], count: int, suffix: str
) -> dict[str, Figure]:
    quality = {}
    for name in measured:
        dropped = set(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
        quality[name] = (len(dropped & truth) / len(truth), len(dropped & planted) / max(1, len(dropped)))
    ours, peer = quality["ours"], quality["datasketch"]
    say(f"  recall and precision: ours {ours[0]:.4f}, {ours[1]:.4f}; datasketch {peer[0]:.4f}, {peer[1]:.4f}")
    assert ours[0] >= 0.99, f"expected to find the similar copies, found {ours[0]:.4f} of {len(truth)}"
    note = (
        f"{count:,} texts, {len(truth):,} copies at or above {THRESHOLD}; recall ours {ours[0]:.4f}, datasketch "
        f"{peer[0]:.4f}; precision ours {ours[1]:.4f}, datasketch {peer[1]:.4f}. Ours reads and writes tables"
    )
    named = f"datasketch {peers.versions(*peers.DATASKETCH)['datasketch']} MinHashLSH"
    return {
        f"neardup_vs_datasketch{suffix}": times_faster(measured["ours"], measured["datasketch"], named, f"{note}."),
        f"neardup_recall{suffix}": Figure(
            value=ours[0], unit="fraction", baseline=peer[0], baseline_name=named, note="of the copies at the threshold"
        ),
        f"neardup_peak_memory_mb{suffix}": Figure(
            value=measured["ours"].peak_mb,
            unit="MB",
            baseline=measured["datasketch"].peak_mb,
            baseline_name=named,
            note="smaller is better. The whole process; datasketch's holds the texts in memory, as its index does",
        ),
    }


def _jaccard(left: str, right: str) -> float:
    one, two = (
        {text[start : start + SHINGLE_CHARS] for start in range(max(1, len(text) - SHINGLE_CHARS + 1))}
        for text in (left, right)
    )
    return len(one & two) / len(one | two)
