"""Cutting a request into chunks that fit a batch: by rows, by cost and by bucket of lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from deepseek.serving.batching.lengths import bucket
from deepseek.serving.errors import RequestError
from deepseek.serving.models.served_model import Row

Measure = Callable[[Row], int]


def cut(
    rows: Sequence[Row], *, most_rows: int, most_cost: float, length: Measure | None, cost: Measure | None
) -> Iterator[tuple[int, list[int], int]]:
    """Yield the bucket, the places in ``rows`` and the cost of each chunk; together they hold every row once.

    Raises :class:`RequestError` when one row alone costs more than ``most_cost``.
    """
    buckets: dict[int, list[int]] = {}
    if length is None:
        buckets[0] = list(range(len(rows)))
    else:
        for place, row in enumerate(rows):
            buckets.setdefault(bucket(length(row)), []).append(place)
    for number, places in buckets.items():
        held: list[int] = []
        total = 0
        for place in places:
            price = 0 if cost is None else cost(rows[place])
            if price > most_cost:
                raise RequestError(
                    f"expected rows that cost at most {most_cost} each (the model's limit of a batch), "
                    f"received one that costs {price}; send a smaller one"
                )
            if held and (len(held) == most_rows or total + price > most_cost):
                yield number, held, total
                held, total = [], 0
            held.append(place)
            total += price
        yield number, held, total
