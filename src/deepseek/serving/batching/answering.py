"""One batch's way through a model: together if that goes, else chunk by chunk, so that only the guilty one fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from deepseek.serving.batching.request import Outcome
from deepseek.serving.models.served_model import Outputs, Parameters, Row

Predict = Callable[[Sequence[Row], Parameters], Outputs]


def answer(
    predict: Predict, pieces: Sequence[Sequence[Row]], parameters: Parameters, wanted: Callable[[int], bool], name: str
) -> list[Outcome]:
    """Run the pieces as one batch and return an outcome for each.

    When that fails, whatever the exception (torch raises ``RuntimeError`` for a bad index or shape too), they are run
    one by one; those that ``wanted(index)`` says nobody waits for are passed over.
    """
    if len(pieces) == 1:
        return [attempt(predict, pieces[0], parameters, name)]
    together = attempt(predict, [row for piece in pieces for row in piece], parameters, name)
    if isinstance(together, Exception):
        return [
            attempt(predict, piece, parameters, name) if wanted(index) else [] for index, piece in enumerate(pieces)
        ]
    outcomes: list[Outcome] = []
    start = 0
    for piece in pieces:
        outcomes.append(together[start : start + len(piece)])
        start += len(piece)
    return outcomes


def attempt(predict: Predict, rows: Sequence[Row], parameters: Parameters, name: str) -> Outcome:
    """Call the model once; what it raises, or a breach of its contract, is returned."""
    try:
        outputs = predict(rows, parameters)
        if len(outputs) != len(rows):
            return RuntimeError(f"model {name!r} returned {len(outputs)} rows for {len(rows)}")
        for kind in set(map(type, outputs)):
            if not issubclass(kind, Mapping):
                return RuntimeError(f"model {name!r} returned rows of {kind.__name__}, expected mappings of names")
    except Exception as error:  # noqa: BLE001  it is handed to the request that it belongs to
        # A future cannot carry StopIteration.
        return RuntimeError("the model raised StopIteration") if isinstance(error, StopIteration) else error
    return outputs
