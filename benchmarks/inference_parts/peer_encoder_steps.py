"""The peers' side: an encoder with a classification head in each peer's recommended way, in a process of its own.

Runs in the peers' environment, which holds nothing of ours. What each does to the model before it can be loaded
(export, conversion, quantisation) is ``prepare``, made once and not timed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.inference_parts.encoder_timing import NAMES, THREADS, batches_of, timed
from benchmarks.worker import Clock, serve

OPSET = 17
MAX_LENGTH = 128
Answer = Callable[[dict[str, Any]], Any]
"""Arrays of int64, (rows, tokens) each, to logits, (rows, labels)."""
state: dict[str, Any] = {}


def prepare(clock: Clock, *, contestant: str, model: str, folder: str, calibration: str, heads: int) -> None:
    """Make in ``folder`` what the contestant loads; ``calibration`` is a file of texts, one of them a JSON line."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if contestant.startswith("ONNX Runtime"):
        _prepare_onnx(model, target, int8="int8" in contestant, heads=heads)
    elif contestant.startswith("OpenVINO"):
        texts = Path(calibration).read_text(encoding="utf-8").splitlines() if "int8" in contestant else []
        _prepare_openvino(model, target, [json.loads(line) for line in texts])


def open_model(clock: Clock, *, contestant: str, model: str, folder: str) -> None:
    """Load a contestant."""
    if contestant.startswith("ONNX Runtime"):
        state["answer"] = _onnx(Path(folder))
    elif contestant.startswith("OpenVINO"):
        state["answer"] = _openvino(Path(folder), bf16="bf16" in contestant)
    else:
        state["answer"] = _torch(model, bf16="bf16" in contestant, compiled="compile" in contestant)
    state["model"] = model


def logits(clock: Clock, *, file: str) -> list[list[float]]:
    """Logits of all rows of a cell."""
    return [row for batch in batches_of(file) for row in state["answer"](batch).tolist()]


def answer(clock: Clock, *, file: str, times: int) -> list[float]:
    """Seconds of each of several passes over the batches of a cell."""
    run, batches = state["answer"], batches_of(file)
    return timed(lambda: [run(batch) for batch in batches], times)


def texts(clock: Clock, *, file: str, size: int, times: int) -> list[float]:
    """Seconds of each of several passes from texts to labels, tokenising included.

    The texts are sorted by length, so that little is padding: ours does it, and a peer's user can.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(state["model"])
    given = json.loads(Path(file).read_text(encoding="utf-8"))

    def once() -> None:
        encoded = tokenizer(given, truncation=True, max_length=MAX_LENGTH)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(given)), key=lengths.__getitem__, reverse=True)
        found = [0] * len(given)
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            rows = {name: [encoded[name][i] for i in chunk] for name in NAMES}
            batch = dict(tokenizer.pad(rows, return_tensors="np"))
            for i, label in zip(chunk, state["answer"](batch).argmax(-1).tolist(), strict=True):
                found[i] = label

    return timed(once, times)


def _torch(model: str, *, bf16: bool, compiled: bool) -> Answer:
    import torch
    from transformers import AutoModelForSequenceClassification

    dtype = torch.bfloat16 if bf16 else torch.float32
    loaded = AutoModelForSequenceClassification.from_pretrained(model, dtype=dtype, attn_implementation="sdpa").eval()
    called: Any = loaded
    if compiled:
        import torch._inductor.config

        torch._inductor.config.freezing = True
        called = torch.compile(loaded, dynamic=True)

    def run(batch: dict[str, Any]) -> Any:
        # freezing folds the weights only where no gradient is recorded
        with torch.no_grad() if compiled else torch.inference_mode():
            found = called(**{name: torch.from_numpy(value) for name, value in batch.items()})
        return found.logits.float().numpy()

    return run


def _prepare_onnx(model: str, folder: Path, *, int8: bool, heads: int) -> None:
    """Export, fuse attention, layer normalisation and GELU as ONNX Runtime's own optimiser does, perhaps quantise."""
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer
    from transformers import AutoModelForSequenceClassification

    # the optimiser knows the graph of plain attention
    loaded = AutoModelForSequenceClassification.from_pretrained(model, attn_implementation="eager").eval()
    loaded.config.return_dict = False
    example = torch.ones(2, 6, dtype=torch.long)
    mask = example.clone()
    mask[0, 3:] = 0
    axes = {0: "rows", 1: "tokens"}
    torch.onnx.export(
        loaded, (example, mask, torch.zeros_like(example)), str(folder / "exported.onnx"), dynamo=False,
        input_names=list(NAMES), output_names=["logits"], opset_version=OPSET,
        dynamic_axes={**dict.fromkeys(NAMES, axes), "logits": {0: "rows"}},
    )  # fmt: skip
    fused = optimizer.optimize_model(
        str(folder / "exported.onnx"), "bert", num_heads=heads, hidden_size=loaded.config.hidden_size
    )
    (folder / "fused.json").write_text(json.dumps(fused.get_fused_operator_statistics()), encoding="utf-8")
    fused.save_model_to_file(str(folder / "model.onnx"))
    if int8:
        (folder / "model.onnx").rename(folder / "fused.onnx")
        quantize_dynamic(
            folder / "fused.onnx",
            folder / "model.onnx",
            per_channel=True,
            weight_type=QuantType.QInt8,
            # types are not inferred through fused operations
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        (folder / "fused.onnx").unlink()
    (folder / "exported.onnx").unlink()


def _onnx(folder: Path) -> Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, batch)[0]


def _prepare_openvino(model: str, folder: Path, texts: list[str]) -> None:
    """Convert; with texts also quantise, calibrated on them, by NNCF's settings for transformers."""
    import openvino
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    loaded = AutoModelForSequenceClassification.from_pretrained(model).eval()
    example = {name: torch.ones(2, 6, dtype=torch.long) for name in NAMES}
    example["attention_mask"][0, 3:] = 0
    loaded.config.return_dict = False
    made = openvino.convert_model(loaded, example_input=example)
    for port in made.inputs:
        port.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
    made.validate_nodes_and_infer_types()
    if texts:
        import nncf

        tokenizer = AutoTokenizer.from_pretrained(model)
        rows = nncf.Dataset(
            texts, lambda text: dict(tokenizer(text, truncation=True, max_length=MAX_LENGTH, return_tensors="np"))
        )
        made = nncf.quantize(made, rows, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(texts))
    openvino.save_model(made, folder / "model.xml", compress_to_fp16=False)


def _openvino(folder: Path, *, bf16: bool) -> Answer:
    import openvino

    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": THREADS,
        "CACHE_DIR": str(folder / "kernels"),
    }
    if bf16:
        settings["INFERENCE_PRECISION_HINT"] = "bf16"
    request = openvino.Core().compile_model(folder / "model.xml", "CPU", settings).create_infer_request()

    def run(batch: dict[str, Any]) -> Any:
        request.infer(batch, share_inputs=True)
        return request.get_output_tensor(0).data.copy()

    return run


if __name__ == "__main__":
    serve(prepare, open_model, logits, answer, texts)
