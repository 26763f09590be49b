"""The planner: budgets, batch shapes, simulated memory, the search and what a plan does to a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from deepseek.errors import ConfigError
from deepseek.models.layers import transformer_layers
from deepseek.training import TrainingRecipe
from deepseek.training.planning import Plan, available_memory, parse_memory, parse_time, plan, suggest_after_oom
from deepseek.training.planning.batches import epoch_shapes, memory_lengths
from deepseek.training.planning.heap import Heap
from deepseek.training.planning.live_memory import LiveMemory
from deepseek.training.planning.rehearsal import Act, rehearsal_of, rehearse
from deepseek.training.planning.search import PROCESS_GROWTH
from deepseek.training.planning.settings import Settings
from deepseek.training.planning.simulation import Footprint, simulate
from deepseek.training.planning.skeleton import adapted, copied, skeleton
from deepseek.training.planning.steps import step, stretched, template
from deepseek.training.planning.timing import START_SECONDS, Length, StepTimes, run_seconds

TASK = {"name": "text-classification", "labels": ["a", "b"]}
LORA = {"r": 4, "target_modules": ["query", "value"]}
MB = 10**6


def config(**changes: Any) -> Any:
    small = {"vocab_size": 200, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
             "intermediate_size": 128, "max_position_embeddings": 256}  # fmt: skip
    return transformers.BertConfig(**{**small, **changes})


def recipe(adapter: bool = True, **training: Any) -> TrainingRecipe:
    return TrainingRecipe(task=TASK, adapter=LORA if adapter else None, training={"epochs": 1, **training})


def footprint(settings: Settings, *, adapter: bool = True, tokens: int = 64) -> Footprint:
    made = recipe(adapter)
    bare = skeleton(config(), made)
    task = made.build_task()
    ready = adapted(copied(bare, lambda t: torch.empty_like(t, device="meta")), made, settings)
    return simulate(ready, settings, made, task, template(task, bare.config), [8, tokens])


@pytest.mark.parametrize(
    ("text", "count"), [("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("800M", 800 * MB), ("512", 512), (77, 77)]
)
def test_memory_is_read(text: str | int, count: int) -> None:
    assert parse_memory(text) == count


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("45", 45), (2.5, 2.5)])
def test_time_is_read(text: str | float, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "much", "-2GB", "2 parsecs", "0GB"])
def test_bad_budgets_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="such as '2GB'"):
        parse_memory(text)
    with pytest.raises(ConfigError, match="such as '90s'"):
        parse_time(text.replace("0GB", "0s"))


def test_available_memory_is_more_than_nothing_and_within_the_machine() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal"))
    assert 0 < available_memory() <= total * 1.05


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=400),
    st.integers(1, 4),
    st.integers(1, 16),
    st.booleans(),
)
def test_an_epoch_has_every_row_once_and_its_longest_batch(
    lengths: list[int], accumulation: int, micro: int, grouped: bool
) -> None:
    shapes = epoch_shapes(np.array(lengths), accumulation * micro, micro, group_by_length=grouped)
    assert shapes[:, 0].sum() == len(lengths)
    assert shapes[:, 0].max() <= micro
    assert shapes[:, 1].max() == max(lengths)
    assert (shapes[:, 0] * shapes[:, 1]).sum() >= sum(lengths)


def test_grouping_saves_padding() -> None:
    lengths = np.random.default_rng(0).integers(4, 200, 2000)
    padded = {
        grouped: np.prod(epoch_shapes(lengths, 32, 32, group_by_length=grouped), axis=1).sum()
        for grouped in (True, False)
    }
    assert padded[True] < 0.75 * padded[False]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60 * 2**20)), max_size=120))
def test_the_heap_holds_at_least_what_is_alive(events: list[tuple[int, int]]) -> None:
    heap = Heap()
    alive: dict[int, int] = {}
    for key, size in events:
        if key in alive:
            heap(key, 0)
            del alive[key]
        else:
            heap(key, size)
            alive[key] = size
        assert heap.resident >= sum(alive.values())
        assert heap.peak >= heap.resident


def test_live_memory_counts_storages_once_and_forgets_the_dead() -> None:
    with LiveMemory() as memory:
        first = torch.zeros(1000)
        view = first.view(10, 100)
        assert memory.live == 4000
        second = view + 1
        assert memory.live == memory.peak == 8000
        del first, view
        assert memory.live == 4000
        del second
    assert (memory.live, memory.peak) == (0, 8000)


def test_fake_steps_count_the_same_bytes_as_real_ones() -> None:
    made = recipe()
    settings = Settings(batch_size=4, micro_batch_size=4, trunk_dropout=0.0)
    task = made.build_task()
    bare = skeleton(config(), made)
    real = transformers.BertForSequenceClassification(config())
    from deepseek.models.adapters.mixin import make_adaptable

    real = make_adaptable(real)
    real.fresh_modules = bare.fresh_modules
    real = adapted(real, made, settings).train()
    for module in real.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    weights = [p for p in real.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, fused=True)
    sample = template(task, bare.config)
    with LiveMemory() as memory:
        memory.hold([*real.parameters(), *real.buffers()])
        step(real, optimizer, [stretched(sample, 1, 8)], task, 1.0)
        memory.reset_peak()
        padded = stretched(sample, 4, 64)
        padded["attention_mask"][0, -1] = 0  # with nothing padded a real run makes no mask, a simulated one always does
        step(real, optimizer, [padded], task, 1.0)
    assert footprint(settings).peak == pytest.approx(memory.peak, rel=0.05)


def test_what_each_setting_does_to_memory() -> None:
    plain = Settings(batch_size=8, micro_batch_size=8, trunk_dropout=0.0)
    base = footprint(plain)

    def change(**changes: Any) -> Footprint:
        return footprint(plain.model_copy(update=changes))

    assert change(gradient_checkpointing=True).activations < 0.6 * base.activations
    assert change(micro_batch_size=4).activations < 0.7 * base.activations
    assert change(adapted_layers=2).activations < 0.8 * base.activations
    assert change(trunk_dropout=0.1).activations > 1.2 * base.activations
    narrow = change(precision="bfloat16")
    assert narrow.weights < 0.6 * base.weights
    assert narrow.activations < 0.8 * base.activations
    full = footprint(Settings(batch_size=8, micro_batch_size=8), adapter=False)
    assert full.gradients > 10 * base.gradients
    assert full.optimizer == pytest.approx(2 * full.gradients, rel=0.01)


def test_layers_whose_states_are_kept_take_no_memory_in_a_narrow_trunk() -> None:
    shallow = Settings(
        batch_size=8, micro_batch_size=8, trunk_dropout=0.0, adapted_layers=1, precision="bfloat16", cache_frozen=True
    )
    kept = footprint(shallow)
    whole = footprint(shallow.model_copy(update={"cache_frozen": False}))
    layers = 3 * (4 * 64 * 64 + 2 * 64 * 128)  # their matrices, of four layers that the model has
    assert whole.weights - kept.weights > 2 * (layers + 200 * 64)
    assert kept.trained == whole.trained


def test_memory_is_looked_at_where_the_run_has_its_long_steps() -> None:
    shapes = np.array([[8, tokens] for tokens in range(1, 102)])
    assert memory_lengths(shapes, again=False) == [101, 51, 95, 75]
    assert memory_lengths(shapes, again=True) == [101, 51, 95, 75, 101]
    assert memory_lengths(shapes[:1], again=False) == [1]
    few = np.array([[8, tokens] for tokens in (40, 16, 64, 24)])
    assert memory_lengths(few, again=False) == [64, 24, 40, 40]  # a run of one epoch has its longest step once


def test_a_plan_without_budgets_keeps_full_depth_and_checkpoints_nothing() -> None:
    made = plan(config(), [64] * 100, recipe(batch_size=8), calibrate=False)
    assert made.settings.adapted_layers is None
    assert not made.settings.gradient_checkpointing
    assert made.settings.micro_batch_size == 8
    assert made.seconds is None
    assert "chosen" in made.table()
    assert "peak memory" in str(made)
    assert Plan.model_validate_json(made.model_dump_json()) == made


def test_a_tight_budget_takes_smaller_passes_then_says_what_is_needed() -> None:
    lengths, wanted = [200] * 64, recipe(batch_size=32, precision="float32")
    roomy = plan(config(), lengths, wanted, calibrate=False, process_bytes=0)
    tight = plan(config(), lengths, wanted, calibrate=False, process_bytes=0, memory=roomy.memory_bytes - 30 * MB)
    assert tight.memory_bytes <= roomy.memory_bytes - 30 * MB
    assert tight.settings.batch_size == 32
    assert tight.settings.accumulation > 1 or tight.settings.gradient_checkpointing
    assert any("needs more than" in c.verdict for c in tight.candidates)
    with pytest.raises(ConfigError, match="the smallest plan needs"):
        plan(config(), lengths, wanted, calibrate=False, process_bytes=0, memory=PROCESS_GROWTH)


def test_a_fixed_precision_and_a_given_model_are_kept() -> None:
    model = transformers.BertForSequenceClassification(config())
    before = {name: p.clone() for name, p in model.named_parameters()}
    made = plan(model, [32] * 50, recipe(batch_size=8, precision="float32"), calibrate=False)
    assert {c.settings.precision for c in made.candidates} == {"float32"}
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_apply_writes_the_settings_into_the_recipe() -> None:
    start = recipe(batch_size=32, plan={"memory": "2GB"})
    made = plan(config(), [64] * 100, start, calibrate=False)
    settings = made.settings.model_copy(
        update={"adapted_layers": 2, "micro_batch_size": 8, "gradient_checkpointing": True, "cache_frozen": True}
    )
    applied = made.model_copy(update={"settings": settings}).apply(start)
    assert applied.adapter is not None
    assert applied.adapter.layers == [2, 3]
    assert applied.training.plan is None
    assert (applied.training.batch_size, applied.training.micro_batch_size) == (32, 8)
    assert applied.training.gradient_checkpointing
    assert applied.training.cache_frozen
    TrainingRecipe.model_validate(applied.model_dump())


def test_a_time_budget_needs_timed_steps_and_lengths_must_be_lengths() -> None:
    with pytest.raises(ConfigError, match="calibrate=True"):
        plan(config(), [64], recipe(), time="1m", calibrate=False)
    with pytest.raises(ConfigError, match="token count"):
        plan(config(), [], recipe(), calibrate=False)


def test_time_adds_up_over_layers_and_batches() -> None:
    one = np.ones(2)
    times = StepTimes(
        lengths=np.array([10.0, 20.0]), layer=3 * one, rest=one, forward=one, rest_forward=one,
        update=0.0, update_layer=0.0, spread=0.0,
    )  # fmt: skip
    shapes = np.array([[2, 10], [2, 20]])
    run = Length(epochs=3)
    settings = Settings(batch_size=2, micro_batch_size=2)

    def seconds(trained: int, **changes: Any) -> float:
        changed = settings.model_copy(update=changes)
        return run_seconds(times, changed, shapes, run, layers=4, trained=trained, state_bytes=0)

    loop = START_SECONDS + 3 * 2 * 0.006
    assert seconds(4) == pytest.approx(3 * 4 * (1 + 12) + loop)
    assert seconds(4, gradient_checkpointing=True) == pytest.approx(3 * 4 * (1 + 16) + loop)
    assert seconds(1) == pytest.approx(3 * 4 * (1 + 3 + 3) + loop)
    assert seconds(1, cache_frozen=True) == pytest.approx(3 * 4 * (1 + 3) + 4 * 3 + loop)  # lower layers once, not 3 x


def test_advice_after_running_out_of_memory_names_only_what_is_left_to_change() -> None:
    first = suggest_after_oom(recipe(batch_size=32).training, adapter=True)
    assert any("micro_batch_size: 16" in a for a in first)
    assert any("gradient_checkpointing" in a for a in first)
    changed = recipe(batch_size=32, micro_batch_size=1, gradient_checkpointing=True).training
    last = suggest_after_oom(changed, adapter=True)
    assert not any("micro_batch_size" in a or "gradient_checkpointing" in a for a in last)


def test_layers_are_found_on_any_architecture() -> None:
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
                                 intermediate_size=64, num_key_value_heads=2)
    )  # fmt: skip
    assert transformer_layers(llama)[0] == "model.layers"
    with pytest.raises(ConfigError, match="no list of equal layers"):
        transformer_layers(torch.nn.Linear(2, 2))


@pytest.mark.slow
def test_a_plan_with_a_time_budget_times_real_steps() -> None:
    made = plan(config(), [32] * 200, recipe(batch_size=16), time="1h")
    assert 0 < (made.seconds_low or 0) < (made.seconds or 0) < (made.seconds_high or 0)
    assert sum(c.verdict == "chosen" for c in made.candidates) == 1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_predicted_memory_is_what_a_process_then_takes(precision: Any) -> None:
    from deepseek.arithmetic import trains_in_bfloat16

    if precision == "bfloat16" and not trains_in_bfloat16():
        pytest.skip("no native bfloat16")
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    shape = config(**sizes, vocab_size=30522)
    made = recipe(batch_size=16, precision=precision)
    bare, task = skeleton(shape, made), made.build_task()
    settings = Settings(batch_size=16, micro_batch_size=16, precision=precision, trunk_dropout=0.0)
    act = Act(settings=settings, shapes=[(16, 32), (16, 128), (16, 64), (16, 128)])
    outcome = rehearse(rehearsal_of(bare, made, task, template(task, bare.config), "cpu", [act]))
    predicted = plan(shape, [128] * 64, made, calibrate=False, process_bytes=outcome.imported_bytes)
    assert predicted.settings == settings
    assert predicted.memory_bytes == pytest.approx(outcome.peak_bytes, rel=0.2)
