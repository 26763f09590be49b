"""What absolute positions add on average, folded into embeddings that stay.

BERT adds a vector for each position to its tokens. Their mean goes into the vectors of the token types, so that
normalisation sees what it saw; the first position's own part goes into the token that begins every text, which has that
position and no other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deepseek.models.conversion.mapping import backbone_of
from deepseek.models.deepseek_base import DeepSeekBaseForMaskedLM, DeepSeekBasePreTrainedModel


@torch.no_grad()
def fold_positions(
    model: DeepSeekBasePreTrainedModel, positions_PM: Tensor, *, first_token: int | None, lengths: Sequence[int]
) -> None:
    """Fold position embeddings into a converted model, in place.

    Args:
        positions_PM: the vector of each position.
        first_token: the token that begins every text; ``None`` if there is none.
        lengths: of the texts to average over, in tokens, each length weighing as much as another.
    """
    begin = 0 if first_token is None else 1
    mean_M = torch.stack([positions_PM[begin:length].mean(0) for length in lengths]).mean(0)
    embeddings = backbone_of(model).embeddings
    assert embeddings.types is not None  # BERT has one type of tokens or more
    embeddings.types.weight.add_(mean_M)
    if first_token is None:
        return
    shift_M = positions_PM[0] - mean_M
    embeddings.tokens.weight[first_token] += shift_M
    if isinstance(model, DeepSeekBaseForMaskedLM) and model.config.tie_word_embeddings:
        # its row is its output vector too. The head's normalised output is at most sqrt(M) long before gain and bias:
        # lower its logit by what the shift could add, for it is never what a mask hides
        norm = model.head.norm
        reach = shift_M @ norm.bias + (shift_M * norm.weight).norm() * len(shift_M) ** 0.5
        model.decoder.bias[first_token] -= reach
