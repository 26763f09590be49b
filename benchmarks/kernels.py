"""Decoding's kernels on a GPU: which share of the memory's bandwidth they reach, beside PyTorch's own operations.

    make bench NAME=kernels                     about two minutes on one GPU
    make bench NAME=kernels ARGS=--sweep        tries other tilings and prints the best; writes nothing

Needs PyTorch and Triton alone, so that it also runs from source (PYTHONPATH=src:.) where nothing else is installed.
Calls are captured in a graph, as engines run them, so that launching is not measured; each call reads other bytes than
the ones before, until they are several times what the cache holds. Counted are the bytes that have to be read and
written once: keys, values, weights, rows.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import Figure, say, write_results

BATCHES, CONTEXTS = (1, 8, 64), (512, 4096, 32768)
HEADS, KV_HEADS, WIDTH = 32, 8, 128
LAYERS = {"query, key, value": (4096, 12288), "output": (4096, 4096), "gate, up": (4096, 22016), "down": (11008, 4096)}
"""Inputs and outputs of a layer's products in a Llama of 7 billion."""
ROWS = (1, 8, 32)
CACHES = 4
"""Times the GPU's last cache that goes by before bytes are read again."""
MOST_CALLS = 128
REPLAYS = 9
Call = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One operation: seconds of a call and bytes that it has to move."""

    seconds: float
    bytes: int

    def share(self, bandwidth: float) -> float:
        """Of ``bandwidth`` bytes a second."""
        return self.bytes / self.seconds / bandwidth

    def said(self, bandwidth: float) -> str:
        """For a note."""
        return f"{1e6 * self.seconds:.1f} µs, {self.share(bandwidth):.1%}"


def main() -> None:
    """Measure on a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="the result file (default: benchmarks/results/kernels.json)")
    parser.add_argument("--sweep", action="store_true", help="try tilings, and write nothing")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        sys.exit("kernels needs a GPU that PyTorch sees (torch.cuda.is_available()); nothing was measured")
    bandwidth = read_bandwidth()
    say(f"memory read: {bandwidth / 1e12:.3f} TB/s")
    if options.sweep:
        sweep(bandwidth)
        return
    # after each part, so that what was measured outlives what comes after
    _write(matmul_figures(bandwidth), bandwidth, options.output)
    for batch in BATCHES:
        _write(attention_figures(batch, bandwidth), bandwidth, options.output)


def _write(figures: dict[str, Figure], bandwidth: float, target: Path | None) -> None:
    import torch

    from deepseek.inference.hardware.processor import processor_name

    properties = torch.cuda.get_device_properties(0)
    runtime = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    hardware = {
        "processor": processor_name(),
        "GPU": f"{properties.name}, {runtime}, memory read at {bandwidth / 1e12:.3f} TB/s",
    }
    write_results(
        "kernels", figures, versions=("deepseek", "torch", "triton"), peers={}, target=target, hardware=hardware
    )


def seconds_of(calls: Sequence[Call]) -> float:
    """Seconds of one call, the median of several replays of a graph of all."""
    import torch

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # compiles, and lets libraries take their working memory
        for call in (calls[0], calls[-1]):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    times = []
    for _ in range(REPLAYS + 1):
        begun, over = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begun.record()
        graph.replay()
        over.record()
        torch.cuda.synchronize()
        times.append(begun.elapsed_time(over) / 1e3 / len(calls))
    return statistics.median(times[1:])


def copies_for(moved: int) -> int:
    """Inputs of ``moved`` bytes that go by until the cache has forgotten the first."""
    import torch

    cache = int(getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0)) or 64 << 20
    return max(1, min(MOST_CALLS, math.ceil(CACHES * cache / moved)))


def read_bandwidth() -> float:
    """Bytes a second that PyTorch reads at best."""
    import torch

    numbers = torch.ones(1 << 30, device="cuda")
    halves = numbers.chunk(2)
    ways = [lambda: numbers.sum(), lambda: torch.dot(*halves)]
    best = min(seconds_of([way] * 4) for way in ways)
    return numbers.numel() * 4 / best


@dataclass(frozen=True, kw_only=True)
class AttentionInputs:
    """Copies of a cache, as blocks that lie scattered and as PyTorch takes it."""

    paged: list[tuple[Any, ...]]
    dense: list[tuple[Any, ...]]
    bytes: int

    @classmethod
    def of(cls, batch: int, context: int) -> AttentionInputs:
        """``batch`` sequences of ``context`` tokens."""
        import torch

        moved = 2 * (2 * batch * context * KV_HEADS * WIDTH + 2 * batch * HEADS * WIDTH)
        paged, dense = [], []
        for _ in range(copies_for(moved)):
            q, keys, values = (
                torch.randn(*shape, dtype=torch.bfloat16, device="cuda")
                for shape in ((batch, HEADS, WIDTH), *[(batch * context // 16, 16, KV_HEADS, WIDTH)] * 2)
            )
            tables = torch.randperm(keys.shape[0], device="cuda").view(batch, -1)
            lengths = torch.full((batch,), context, dtype=torch.int32, device="cuda")
            paged.append((q, keys, values, tables.int(), lengths, WIDTH**-0.5))
            ordered = [cache[tables].flatten(1, 2).transpose(1, 2).contiguous() for cache in (keys, values)]
            dense.append((q[:, :, None], *ordered))
        return cls(paged=paged, dense=dense, bytes=moved)


def attention_figures(batch: int, bandwidth: float) -> dict[str, Figure]:
    """Paged attention against ``scaled_dot_product_attention`` on a cache that lies in one piece."""
    import torch

    from deepseek.inference.kernels import decode_attention

    def sdpa(q: Any, keys: Any, values: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, keys, values, enable_gqa=True)

    figures = {}
    for context in CONTEXTS:
        _empty()
        inputs = AttentionInputs.of(batch, context)
        difference = (decode_attention(*inputs.paged[0]) - sdpa(*inputs.dense[0])[:, :, 0]).abs().max().item()
        if not difference < 0.05:
            sys.exit(f"attention of {batch} x {context} is off by {difference}; nothing more was measured")
        ours = seconds_of([lambda i=i: decode_attention(*i) for i in inputs.paged])
        theirs = seconds_of([lambda i=i: sdpa(*i) for i in inputs.dense])
        figures[f"attention_batch_{batch}_context_{context}"] = _figure(
            f"{batch} x {context:,} tokens, {HEADS} heads, {KV_HEADS} key-value heads of {WIDTH}, bfloat16",
            Timed(seconds=ours, bytes=inputs.bytes), Timed(seconds=theirs, bytes=inputs.bytes),
            "PyTorch's attention, cache in one piece", bandwidth,
        )  # fmt: skip
        del inputs
    return figures


def matmul_figures(bandwidth: float) -> dict[str, Figure]:
    """Products with packed weights against PyTorch's in bfloat16."""
    import torch

    from deepseek.inference.kernels import pack_int4, pack_int8, weight_only_matmul
    from deepseek.inference.kernels.weight_only import reference_matmul

    packers: dict[str, Callable[[Any], Any]] = {"int4": pack_int4, "int8": pack_int8}
    times: dict[tuple[str, int], dict[str, Timed]] = {}
    for layer, (width, outputs) in LAYERS.items():
        _empty()
        copies = copies_for(width * outputs // 2)
        exact = [0.02 * torch.randn(outputs, width, dtype=torch.bfloat16, device="cuda") for _ in range(copies)]
        for kind, rows in itertools.product(packers, ROWS):
            packed = [packers[kind](weight) for weight in exact]
            x = torch.randn(rows, width, dtype=torch.bfloat16, device="cuda")
            expected = reference_matmul(x.float(), packed[0])
            found = weight_only_matmul(x, packed[0]).float()
            difference = ((found - expected).abs().max() / expected.abs().max()).item()
            if not difference < 0.02:
                sys.exit(f"{kind} of {layer}, {rows} rows, is off by {difference:.1%}; nothing more was measured")
            outer = 2 * rows * (width + outputs)
            ours = seconds_of([lambda w=w, x=x: weight_only_matmul(x, w) for w in packed])
            theirs = seconds_of([lambda w=w, x=x: torch.nn.functional.linear(x, w) for w in exact])
            times.setdefault((kind, rows), {})[layer] = Timed(seconds=ours, bytes=packed[0].bytes + outer)
            times.setdefault(("bfloat16", rows), {})[layer] = Timed(seconds=theirs, bytes=2 * width * outputs + outer)
            del packed
    figures = {}
    for kind, rows in itertools.product(packers, ROWS):
        ours_each, theirs_each = times[kind, rows], times["bfloat16", rows]
        each = "; ".join(
            f"{layer} {ours_each[layer].said(bandwidth)} (bfloat16 {theirs_each[layer].said(bandwidth)})"
            for layer in LAYERS
        )
        figures[f"{kind}_rows_{rows}"] = _figure(
            f"a 7B layer's four products, {rows} rows of bfloat16: {each}",
            _together(ours_each), _together(theirs_each), "PyTorch's products in bfloat16", bandwidth,
        )  # fmt: skip
    return figures


def _together(parts: dict[str, Timed]) -> Timed:
    return Timed(seconds=sum(p.seconds for p in parts.values()), bytes=sum(p.bytes for p in parts.values()))


def _figure(what: str, ours: Timed, theirs: Timed, peer: str, bandwidth: float) -> Figure:
    say(f"  {what[:60]}: {ours.said(bandwidth)}; {peer} {theirs.said(bandwidth)}")
    return Figure(
        value=ours.share(bandwidth),
        unit="share of the memory's bandwidth",
        baseline=theirs.share(bandwidth),
        baseline_name=peer,
        note=f"bigger is better; {what}. Ours {1e6 * ours.seconds:.1f} µs, {peer} {1e6 * theirs.seconds:.1f} µs: "
        f"{theirs.seconds / ours.seconds:.2f} times faster.",
    )


def _empty() -> None:
    """Nothing of what was measured before on the device."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def sweep(bandwidth: float) -> None:
    """Print the best of other tilings, for whoever sets the defaults for a GPU."""
    import torch

    from deepseek.inference.kernels import pack_int4, pack_int8
    from deepseek.inference.kernels.triton_attention import launch_attention
    from deepseek.inference.kernels.triton_weight_only import Tiling, launch_matmul

    for batch, context in ((1, 4096), (8, 4096), (64, 4096), (1, 32768)):
        inputs = AttentionInputs.of(batch, context)
        found = []
        for splits, warps, stages in itertools.product((None, 4, 8, 16, 32), (4, 8), (1, 2, 3)):
            options = {"num_warps": warps, "num_stages": stages}
            calls = [lambda i=i, s=splits, o=options: launch_attention(*i, s, o) for i in inputs.paged]
            found.append((seconds_of(calls), f"splits {splits}, {options}"))
        _say_best(f"attention {batch} x {context}", found, inputs.bytes, bandwidth)
        del inputs
        _empty()
    for (layer, (width, outputs)), pack in itertools.product(LAYERS.items(), (pack_int4, pack_int8)):
        copies = copies_for(width * outputs // 2)
        packed = [pack(0.02 * torch.randn(outputs, width, device="cuda")) for _ in range(copies)]
        x = torch.randn(1, width, dtype=torch.bfloat16, device="cuda")
        found = []
        for columns, splits, warps, stages in itertools.product((32, 64, 128), (None, 2, 8), (2, 4, 8), (2, 4)):
            tiling = Tiling(outputs=columns, splits=splits, warps=warps, stages=stages)
            found.append((seconds_of([lambda w=w, x=x, t=tiling: launch_matmul(x, w, t) for w in packed]), str(tiling)))
        _say_best(f"{pack.__name__} {layer}", found, packed[0].bytes, bandwidth)
        del packed
        _empty()


def _say_best(what: str, found: list[tuple[float, str]], moved: int, bandwidth: float) -> None:
    say(what)
    for seconds, how in sorted(found)[:4]:
        say(f"  {Timed(seconds=seconds, bytes=moved).said(bandwidth)}: {how}")


if __name__ == "__main__":
    main()
