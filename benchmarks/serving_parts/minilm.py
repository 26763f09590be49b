"""Claim: MiniLM through the server classifies at least 90% of the sentences a second that the runtime alone does.

In each round the server is loaded with sentences one a request; then the runtime, loaded in the same way in a process
of its own, answers the same sentences in calls of the size that the server's batches had. The one that waits uses no
processor. The load generator's and the server's own share of the two cores is what is between the two.
"""

from __future__ import annotations

import http.client
import json
import statistics
from collections.abc import Sequence

from benchmarks.harness import Figure, StepFailed, Worker, say
from benchmarks.serving_parts import wrk
from benchmarks.serving_parts.contest_requests import text_json
from benchmarks.serving_parts.contestants import REST_JSON, ours
from benchmarks.serving_parts.context import CONNECTIONS, Context
from benchmarks.serving_parts.gateway import LOAD, OURS
from benchmarks.serving_parts.load import Load, Row
from benchmarks.serving_parts.measuring import Target, started
from benchmarks.serving_parts.minilm_bundle import minilm
from benchmarks.serving_parts.our_server import BUNDLE

STEPS = "benchmarks.serving_parts.our_runtime_steps"
PATH = f"/v2/models/{BUNDLE}/infer"
HEADERS = {"Content-Type": "application/json"}
PROMISED = 0.9
SAME_SHARE = 0.98
"""Sentences that both sides must label alike: in int8 a sentence's padding moves its numbers a little."""


def run(context: Context) -> dict[str, Figure]:
    """Figures of MiniLM."""
    bundle, texts = minilm(context)
    served, alone, sizes = [], [], []
    runtime = "torch" if context.quick else "auto"  # to find the fastest takes a minute, once
    contestant = ours(OURS, loads=(REST_JSON,), runtime=runtime)
    (setting,) = contestant.settings.values()
    with Worker(STEPS) as worker:
        runtime = worker.run("open_model", bundle=str(bundle), runtime=runtime)["value"]
        with started(contestant, setting, str(bundle), context.workspace("minilm-server")) as target:
            _require_same(worker.run("labels", texts=texts)["value"], target, texts)
            for turn in range(context.rounds):
                load, size = _through_server(context, target, texts)
                found = worker.run("answer", texts=texts, size=size, seconds=context.seconds)["value"]
                served.append(load)
                sizes.append(size)
                alone.append(found["sequences"] / found["seconds"])
                say(f"MiniLM, round {turn + 1}: {load.rate:,.0f}/s in batches of {size:.1f}, alone {alone[-1]:,.0f}/s")
    return figures(Row(tuple(served)), alone, sizes, runtime)


def figures(served: Row, alone: Sequence[float], sizes: Sequence[float], runtime: str) -> dict[str, Figure]:
    """The share of each round's two rates, and the server's rate."""
    shares = [load.rate / rate for load, rate in zip(served.loads, alone, strict=True)]
    told = (
        f"MiniLM with the runtime {runtime}, sentences of reviews, one a request; {LOAD}. Server {served}, in batches "
        f"of {statistics.median(sizes):.1f}; runtime alone in the same batches {statistics.median(alone):,.0f}/s "
        f"({min(alone):,.0f} to {max(alone):,.0f})"
    )
    return {
        "model_share": Figure(
            value=statistics.median(shares),
            unit="of the runtime alone",
            baseline=PROMISED,
            baseline_name="promised at least",
            note=f"bigger is better. Median of the rounds' shares ({min(shares):.3f} to {max(shares):.3f}). {told}.",
        ),
        "minilm_rps": Figure(
            value=served.rate,
            unit="sentences/s",
            baseline=statistics.median(alone),
            baseline_name=f"{runtime} alone",
            note=f"bigger is better. {told}.",
        ),
    }


def _through_server(context: Context, target: Target, texts: Sequence[str]) -> tuple[Load, float]:
    """A load, after a warm-up, and the mean batch that the server made in it."""
    bodies = [text_json(text) for text in texts]
    folder = target.folder / "wrk"
    wrk.load(target.endpoint, PATH, bodies, HEADERS, seconds=context.warm_up, folder=folder)
    before = target.statistics(BUNDLE)
    load = wrk.load(target.endpoint, PATH, bodies, HEADERS, seconds=context.seconds, folder=folder)
    load.require_sound("MiniLM")
    after = target.statistics(BUNDLE)
    inferences = after["inference_count"] - before["inference_count"]
    if inferences < load.requests - CONNECTIONS:
        raise StepFailed(f"MiniLM: {load.requests} answers, but the server has counted {inferences}")
    return load, inferences / (after["execution_count"] - before["execution_count"])


def _require_same(expected: Sequence[str], target: Target, texts: Sequence[str]) -> None:
    """Every sentence once, by hand; raises :class:`StepFailed` when the server labels them otherwise."""
    connection = http.client.HTTPConnection("127.0.0.1", target.endpoint.http_port, timeout=60)
    same = 0
    for text, label in zip(texts, expected, strict=True):
        connection.request("POST", PATH, text_json(text), {**HEADERS, **target.endpoint.headers})
        outputs = json.loads(connection.getresponse().read())["outputs"]
        same += next(output["data"][0] for output in outputs if output["name"] == "label") == label
    connection.close()
    if same < SAME_SHARE * len(texts):
        raise StepFailed(f"the server labels {same} of {len(texts)} sentences as the runtime alone does")
