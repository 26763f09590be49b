"""BERT, RoBERTa and MiniLM checkpoints as DeepSeek-Base: the old weights, in a model that reads long texts.

>>> from deepseek.models import convert
>>> report = convert("all-minilm-l6-v2", "runs/minilm-long")  # doctest: +SKIP

1. :mod:`.source`: which checkpoints can be converted, and what is refused.
2. :mod:`.mapping`: weights go to their places unchanged; without positions, old and new model compute the same.
3. :mod:`.positions`: what absolute positions added on average is folded into embeddings.
4. :mod:`.fitting`: the rest is learned by relative positions, from the old model, on texts without labels.
5. :mod:`.closeness`: how near the new model's outputs are to the old one's, on texts that were not fitted to.
"""
