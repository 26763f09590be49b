"""datasketch's side of the near-duplicate search: MinHash and MinHashLSH, used as its documentation shows.

Each text's shingles go into a ``MinHash`` by ``update_batch`` (the permutations are made once and shared, which its
documentation recommends for many sets); the index is asked before the text is added, so that a text that is like a kept
one is dropped. A text that the index returns counts as similar: that is how it is used directly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.worker import Clock, serve

state: dict[str, Any] = {}


def load(clock: Clock, *, texts: str) -> int:
    """Hold the texts in memory."""
    state["texts"] = json.loads(Path(texts).read_text(encoding="utf-8"))
    return len(state["texts"])


def near_duplicates(
    clock: Clock, *, threshold: float, shingle_chars: int, permutations: int, output: str | None
) -> int:
    """Drop every text that is similar to an earlier kept one; writes the numbers of those dropped."""
    from datasketch import MinHash, MinHashLSH

    dropped = []
    with clock:
        index = MinHashLSH(threshold=threshold, num_perm=permutations)
        seed = MinHash(num_perm=permutations)
        for number, text in enumerate(state["texts"]):
            shingles = {
                text[start : start + shingle_chars].encode() for start in range(max(1, len(text) - shingle_chars + 1))
            }
            sketch = MinHash(num_perm=permutations, permutations=seed.permutations, scheme=seed.scheme)
            sketch.update_batch(shingles)
            if index.query(sketch):
                dropped.append(number)
            else:
                index.insert(number, sketch, check_duplication=False)
    if output:
        Path(output).write_text(json.dumps(dropped), encoding="utf-8")
    return len(dropped)


if __name__ == "__main__":
    serve(load, near_duplicates)
