"""A profile of a small model: its phases, its work, where time went, and what it is written as."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from deepseek.errors import ConfigError, DataError, UnknownNameError
from deepseek.inference import RUNTIMES, profile
from deepseek.inference.hardware import HardwarePeaks
from deepseek.inference.openvino.runtime import NodeTime
from deepseek.inference.profiling import Profile, Sizes, decode_work, forward_work, prefill_work, reference
from deepseek.inference.profiling.openvino_subject import BETWEEN as OUTSIDE
from deepseek.inference.profiling.openvino_subject import PASSES, told, without_first
from deepseek.inference.profiling.passes import kinds_of_modules
from deepseek.inference.profiling.plot import draw
from deepseek.inference.profiling.torch_subject import BETWEEN, IDLE, _told
from deepseek.inference.runtime import Availability, Runtime
from deepseek.models import Checkpoint
from deepseek.tasks.base import Generated

pytestmark = pytest.mark.usefixtures("one_thread")
EMBEDDING = {"task": "sentence-embedding", "device": "cpu", "batch": (1, 3), "length": 12}


def shares(found: Profile) -> list[float]:
    sides = [side for p in found.phases if p.breakdown for side in (p.breakdown.modules, p.breakdown.operators)]
    return [sum(part.share for part in side) for side in sides]


def test_an_encoder_is_one_pass_for_each_batch(encoder: Path, quick: HardwarePeaks, tmp_path: Path) -> None:
    found = profile(encoder, **EMBEDDING, trace=tmp_path / "trace.json")
    assert [phase.name for phase in found.phases] == ["forward 1 x 12", "forward 3 x 12"]
    assert [phase.new_tokens for phase in found.phases] == [12, 36]
    model = reference(Checkpoint(encoder, "encoder"), "none")
    ids = torch.zeros(3, 12, dtype=torch.long)
    assert found.phases[1].work == forward_work(model, {"input_ids": ids, "token_type_ids": ids}, Sizes(4, 4, 4))
    assert found.parameters == sum(weight.numel() for weight in model.parameters())
    assert all(phase.share and phase.share > 0 for phase in found.phases)
    assert found.dtype == "float32"
    for phase in found.phases:
        assert phase.breakdown is not None
        modules = {part.name: part for part in phase.breakdown.modules}
        assert {"BertIntermediate.dense", "BertSelfAttention.query", "LayerNorm", BETWEEN} <= set(modules)
        assert modules["BertIntermediate.dense"].calls == pytest.approx(2)  # layers
        assert {"addmm", "native_layer_norm"} <= {part.name for part in phase.breakdown.operators}
        assert phase.breakdown.products is not None
        assert 0 < phase.breakdown.products < 1
    assert shares(found) == pytest.approx([1.0] * 4)
    assert found.outside.rows == 3
    assert found.outside.padding is None
    names = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert {"phase: forward 3 x 12", "module: encoder.layer.1.intermediate.dense", "aten::addmm"} <= names


def test_a_language_model_reads_and_continues(generator: Path, quick: HardwarePeaks) -> None:
    found = profile(generator, device="cpu", dtype="bfloat16", prefill=40, context=16, streams=(1, 4))
    assert [(p.kind, p.rows, p.new_tokens) for p in found.phases] == [
        ("prefill", 1, 40), ("decode", 1, 1), ("decode", 4, 4),
    ]  # fmt: skip
    decode = found.phases[2]
    assert decode.tokens == 16 + 2 + len(decode.samples) // 2  # two steps warmed up
    model = reference(Checkpoint(generator, "generator"), "causal-lm")
    assert found.phases[0].work == prefill_work(model, 1, 40, Sizes(2, 2, 2))
    assert decode.work == decode_work(model, 4, decode.tokens, Sizes(2, 2, 2))
    assert found.dtype == "bfloat16"
    assert decode.limit is not None
    assert decode.limit.peak == 4e12
    assert decode.breakdown is not None
    assert {"LlamaMLP.down_proj", "LlamaForCausalLM.lm_head"} <= {part.name for part in decode.breakdown.modules}


def test_openvino_tells_its_nodes(encoder: Path, quick: HardwarePeaks) -> None:
    found = profile(encoder, **EMBEDDING, runtime="openvino", dtype="float32")
    assert (found.runtime, found.device, found.dtype) == ("openvino", "cpu", "float32")
    breakdown = found.phases[1].breakdown
    assert breakdown is not None
    assert "BertIntermediate.dense" in {part.name for part in breakdown.modules}
    kinds = {part.name.split()[0] for part in breakdown.operators}
    assert {"FullyConnected", "Gather"} <= kinds
    assert shares(found) == pytest.approx([1.0] * 4)
    assert found.phases[1].share is not None


def test_nodes_are_timed_only_where_that_was_asked_for(encoder: Path) -> None:
    runtime, checkpoint = RUNTIMES.get("openvino")(), Checkpoint(encoder, "encoder")
    ids = torch.ones(1, 4, dtype=torch.long)
    plain = runtime.load(checkpoint, "none", dtype="float32")
    plain.forward({"input_ids": ids})
    counted = runtime.load_model(checkpoint, "none", dtype="float32", counters=True)
    for model in (plain, counted):
        with pytest.raises(ConfigError, match="counters=True, and a pass"):
            model.node_times()  # type: ignore[attr-defined]
    counted.forward({"input_ids": ids})
    assert counted.node_times()  # type: ignore[attr-defined]


def test_means_since_loading_lose_their_first_pass() -> None:
    first = [NodeTime("a", "Add", "jit", 10.0), NodeTime("b", "Add", "jit", 1.0)]
    mean = [NodeTime("a", "Add", "jit", (10.0 + PASSES * 2.0) / (PASSES + 1)), NodeTime("c", "Add", "jit", 0.5)]
    assert [node.seconds for node in without_first(first, mean)] == pytest.approx([PASSES * 2.0, 0.5 * (PASSES + 1)])


def test_nodes_are_of_the_module_that_their_name_says() -> None:
    node = SimpleNamespace
    nodes = [
        node(name="__module.model.layer.0.query/aten::linear/Add", kind="FullyConnected", kernel="brgemm", seconds=0.5),
        node(name="__module.model/aten::add/Add", kind="Add", kernel="jit", seconds=0.25),
        node(name="Multiply_7", kind="Multiply", kernel="jit", seconds=0.25),
    ]
    found = told(nodes, 2.0, {"": "Model", "layer.0.query": "Attention.query"})  # type: ignore[arg-type]
    assert {part.name: part.share for part in found.modules} == {
        OUTSIDE: 0.5, "Attention.query": 0.25, "Model": 0.125, "(of no single module)": 0.125,
    }  # fmt: skip
    assert found.products == 0.25
    assert OUTSIDE not in {part.name for part in told(nodes, 0.5, {}).modules}  # type: ignore[arg-type]


def test_a_gpu_counts_kernels_and_when_there_is_none() -> None:
    def event(name: str, parent: Any, kernel: float = 0.0, wall: float = 0.0, place: str = "CPU") -> Any:
        return SimpleNamespace(
            name=name, cpu_parent=parent, device_type=f"DeviceType.{place}", self_device_time_total=kernel,
            self_cpu_time_total=5.0, cpu_time_total=wall,
        )  # fmt: skip

    phase = event("phase: forward 1", None, wall=100.0)
    module = event("module: layer", phase)
    events = [
        phase, module, event("aten::mm", module, 60.0), event("aten::add", phase, 20.0), event("aten::mm", None, 9.0),
        event("sm90_gemm", None, 60.0, place="CUDA"),
    ]  # fmt: skip
    found = _told(events, {"": "Model", "layer": "Model.layer"}, on_gpu=True)["forward 1"]
    assert {part.name: part.share for part in found.operators} == pytest.approx({"mm": 0.6, "add": 0.2, IDLE: 0.2})
    assert {part.name: part.share for part in found.modules} == pytest.approx(
        {"Model.layer": 0.6, BETWEEN: 0.2, IDLE: 0.2}
    )
    assert found.products == pytest.approx(0.6)
    on_cpu = _told(events, {"layer": "Model.layer"}, on_gpu=False)["forward 1"]
    assert {part.name: part.share for part in on_cpu.operators} == pytest.approx(
        {BETWEEN: 0.5, "mm": 0.25, "add": 0.25}
    )


class _Plugin(Runtime):
    """A runtime with a clock of its own: a second for each row and token read, half a second for each one made."""

    now = 0.0

    @classmethod
    def available(cls) -> Availability:
        return Availability(True, ("cpu",), "")

    def load(self, checkpoint: Any, head: str, *, device: str = "auto", dtype: str = "auto") -> Any:
        class Model:
            def forward(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
                _Plugin.now += batch["input_ids"].numel()
                return {}

            def generate(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> list[Generated]:
                assert options["min_new_tokens"] == options["max_new_tokens"]
                _Plugin.now += batch["input_ids"].numel() + 0.5 * options["max_new_tokens"]
                return []

        return Model()


def test_a_runtime_of_which_nothing_is_known_has_times_only(
    encoder: Path, generator: Path, quick: HardwarePeaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {name: RUNTIMES.get(name) for name in RUNTIMES.names()} | {"plugin": _Plugin}
    monkeypatch.setattr(RUNTIMES, "get", kinds.__getitem__)
    clock = SimpleNamespace(perf_counter=lambda: _Plugin.now)
    monkeypatch.setattr("deepseek.inference.profiling.other_subject.time", clock)
    found = profile(encoder, **EMBEDDING, runtime="plugin")
    assert [phase.seconds for phase in found.phases] == [12, 36]
    assert all(phase.work is None and phase.breakdown is None for phase in found.phases)
    assert "times only" in str(found)
    found = profile(generator, runtime="plugin", prefill=20, context=8, streams=(1, 2))
    assert [phase.seconds for phase in found.phases] == [20.5, 0.5, 0.5]
    assert [phase.tokens_per_second for phase in found.phases[1:]] == [2, 4]
    with pytest.raises(ConfigError, match="no roofline"):
        draw(found, "nowhere.png")


def test_rows_of_the_user_show_their_padding(encoder: Path, quick: HardwarePeaks) -> None:
    rows = [{"text": "film " * words} for words in (2, 2, 2, 6)]
    found = profile(encoder, **{**EMBEDDING, "batch": 2}, rows=rows)
    # sorted, two and two: lengths with the two special tokens are 8 and 4, 4 and 4
    assert found.outside.padding == pytest.approx(4 / (2 * 8 + 2 * 4))
    assert found.outside.rows == 2
    with pytest.raises(DataError, match="row 0"):
        profile(encoder, **EMBEDDING, rows=[{"title": "x"}])


def test_a_machine_that_is_busy_is_said_to_be(
    encoder: Path, quick: HardwarePeaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (1.9, 9.0, 9.0))
    assert profile(encoder, **EMBEDDING).notes == ()
    monkeypatch.setattr("os.getloadavg", lambda: (7.5, 0.0, 0.0))
    (note,) = profile(encoder, **EMBEDDING).notes
    assert "load 7.5 on 4 cores" in note


def test_the_model_is_left_as_it_was(encoder: Path, quick: HardwarePeaks, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    runtime = RUNTIMES.get("torch")
    load = runtime.load

    def keep(self: Any, *given: Any, **options: Any) -> Any:
        kept.append(load(self, *given, **options))
        return kept[-1]

    monkeypatch.setattr(runtime, "load", keep)
    profile(encoder, **EMBEDDING)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in kept[0].model.modules())


def test_kinds_name_matrices_by_their_place() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    assert kinds_of_modules(model) == {"": "Sequential", "0": "Sequential.0", "1": "LayerNorm"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch": (1, 1)}, "different numbers"),
        ({"batch": ()}, "received none"),
        ({"length": 0}, "'length' of at least 1"),
        ({"length": 65}, "'length' of at most 64"),
        ({"runtime": "openvino", "trace": "t.json"}, "expected the runtime 'torch'"),
        ({"trace": "nowhere/t.json"}, "no folder .*nowhere"),
        ({"device": "cuda:99"}, "not available"),
    ],
)
def test_what_cannot_be_profiled_is_refused(
    encoder: Path, quick: HardwarePeaks, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        profile(encoder, **{**EMBEDDING, **options})


def test_names_that_are_not_known_are_refused(encoder: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"runtime 'torhc'.*'torch'"):
        profile(encoder, **EMBEDDING, runtime="torhc")


def test_a_context_leaves_room_for_the_steps(generator: Path, quick: HardwarePeaks) -> None:
    with pytest.raises(ConfigError, match="'context' of at most 206"):
        profile(generator, device="cpu", prefill=8, context=250)


def test_the_command_prints_writes_and_draws(encoder: Path, quick: HardwarePeaks, tmp_path: Path) -> None:
    from deepseek.cli.app import app

    files = {kind: tmp_path / f"found.{end}" for kind, end in (("json", "json"), ("plot", "png"), ("trace", "trace"))}
    asked = [str(encoder), "--task", "sentence-embedding", "--device", "cpu", "--batch", "1,2", "--length", "8"]
    for kind, file in files.items():
        asked += [f"--{kind}", str(file)]
    done = CliRunner().invoke(app, ["profile", *asked])
    assert done.exit_code == 0, done.output
    found = json.loads(files["json"].read_text())
    phase = found["phases"][1]
    slowest = [phase["breakdown"][side][0]["name"] for side in ("modules", "operators")]
    for words in ("forward 2 x 8", "1 TFLOP/s in float32", "outside the model", *slowest):
        assert words in done.output
    assert phase["share"] == pytest.approx(phase["limit"]["seconds"] / phase["seconds"])
    assert phase["work"]["intensity"] == pytest.approx(phase["work"]["flops"] / phase["work"]["bytes"])
    assert found["peaks"]["name"] == "a round machine"
    assert files["plot"].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert json.loads(files["trace"].read_text())["traceEvents"]
    wrong = CliRunner().invoke(app, ["profile", str(encoder), "--batch", "1;2"])
    assert isinstance(wrong.exception, ConfigError)
    assert "--batch" in str(wrong.exception)
    wrong = CliRunner().invoke(app, ["profile", str(encoder), "--json", str(tmp_path / "nowhere" / "found.json")])
    assert isinstance(wrong.exception, ConfigError)
    assert "nowhere" in str(wrong.exception)
