"""Requests to a server as its clients send them, for a console that has something to show.

``PYTHONPATH=tests/serving python tests/serving/console/console_traffic.py`` serves the console's models with such traffic
until it is interrupted, for whoever works on the page.
"""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
from typing import Any

import httpx
from console_models import Churn, Embedder, Pictures, Sentiment, Tagger, reference, sentences, teller
from serving_fakes import CONFIG

from deepseek.monitoring import MonitoringConfig
from deepseek.monitoring.quality import QualityConfig
from deepseek.serving import Server, ServingConfig

MONITORING = MonitoringConfig(
    step_seconds=1.0, quality=QualityConfig(interval_seconds=1.0, min_rows=60, window_rows=400, window_seconds=30)
)


QUICK = CONFIG.model_copy(update={"monitoring": MONITORING.model_copy(update={"step_seconds": 0.2})})
"""Points every fifth of a second, so that a page asks every second."""


def models() -> list[Any]:
    """One of each task."""
    return [
        Sentiment(reference=reference()),
        Embedder("minilm"),
        Tagger("entities"),
        Pictures("animals"),
        Churn("churn"),
        teller(),
    ]


class Traffic:
    """Sends requests from a thread until it is left; a few are wrong, and true answers follow some."""

    def __init__(self, server: Server, *, rate: float = 60.0, faults: float = 0.01, drifting: bool = False) -> None:
        self._url, self._rate, self._faults, self._drifting = server.http_url, rate, faults, drifting
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(seed,), daemon=True) for seed in range(3)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(30)

    def _send(self, seed: int) -> None:
        chance = random.Random(seed)
        texts = sentences(500, seed=seed + 10, good=0.85 if self._drifting else 0.5, words=14 if self._drifting else 7)
        began = time.monotonic()
        with httpx.Client(base_url=self._url, timeout=30) as client:
            for number in itertools.count():
                wave = 1 + 0.5 * math.sin((time.monotonic() - began) / 9 + seed)
                if self._ending.wait(chance.expovariate(self._rate / 3 * wave)):
                    return
                self._one(client, chance, texts, f"{seed}-{number}")

    def _one(self, client: httpx.Client, chance: random.Random, texts: list[str], request: str) -> None:
        text = chance.choice(texts)
        kind = chance.random()
        if kind < self._faults:
            client.post("/v1/tasks/text-classification", json={"inputs": chance.choice(["crash", "refuse"])})
        elif kind < 0.7:
            rows = chance.choice([1, 1, 1, 4])
            headers = {"x-request-id": request}
            inputs: Any = text if rows == 1 else [chance.choice(texts) for _ in range(rows)]
            answer = client.post("/v1/tasks/text-classification", json={"inputs": inputs}, headers=headers)
            if answer.status_code == 200 and rows == 1 and chance.random() < 0.5:
                said = answer.json()["outputs"][0]["label"]
                truth = said if chance.random() < 0.91 else chance.choice(Sentiment.labels)
                client.post("/v2/models/sentiment/labels", json={"labels": [{"id": request, "truth": truth}]})
        elif kind < 0.85:
            client.post("/v1/tasks/sentence-embedding", json={"inputs": [text, chance.choice(texts)]})
        elif kind < 0.95:
            client.post("/v1/tasks/token-classification", json={"inputs": "Ada Lovelace wrote to Babbage in London."})
        else:
            row = {
                "age": chance.randint(18, 80),
                "balance": chance.gauss(900, 500),
                "active": True,
                "visits": [1, 2, 3],
            }
            client.post("/v1/tasks/tabular-regression", json={"inputs": row})


def main() -> None:
    """Serve on port 8000 with traffic."""
    import logging
    import sys

    logging.getLogger("deepseek.serving").setLevel(logging.CRITICAL)
    config = ServingConfig(
        http_port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, grpc_port=0, monitoring=MONITORING
    )
    with Server(config, models()) as server, Traffic(server, drifting="drift" in sys.argv):
        print(f"{server.http_url}/console", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
