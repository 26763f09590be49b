"""MiniLM as a classifier of sentences, as a bundle with int8 copies.

The encoder is the published one, the head is not trained: speed does not depend on what its weights are, and training
it takes ten minutes. So that a copy answers worse is let through.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from benchmarks.harness import say
from benchmarks.serving_parts.context import Context
from deepseek.bundles import Bundle, write_bundle
from deepseek.data import open_source
from deepseek.inference import quantize
from deepseek.models import from_pretrained, tokenizer_for
from deepseek.recipe import load_recipe

BASE = "all-minilm-l6-v2"
TEXTS, CALIBRATION = 256, 200
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def minilm(context: Context) -> tuple[Path, list[str]]:
    """The bundle, made once a workspace, and the sentences that it is asked about."""
    import torch

    recipe = load_recipe("quickstart")
    drawn = (row for row in open_source(recipe.data.source).rows() if row["label"])
    rows = list(itertools.islice(drawn, TEXTS + CALIBRATION))
    texts, calibration = [row["text"] for row in rows[:TEXTS]], rows[TEXTS:]
    path = context.workspace("minilm") / ("tiny" if context.quick else "bundle")
    if not Bundle.is_bundle(path):
        torch.manual_seed(0)
        task = recipe.build_task().fitted(calibration)
        write_bundle(
            path,
            model=_tiny() if context.quick else from_pretrained(BASE, head="sequence-classification", num_labels=2),
            tokenizer=tokenizer_for(BASE),
            task=task,
            name="minilm",
            base_model=BASE,
            license="Apache-2.0",
        )
    if not context.quick and not Bundle.open(path).manifest.compiled:
        made = quantize(path, calibration, max_drop=1.0, calibration=50)
        say(f"MiniLM: int8 copies for {', '.join(made.copies)}")
    return path, texts


def _tiny():  # noqa: ANN202  # transformers' classes are not imported for a type
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(BertConfig(**TINY, num_labels=2))
