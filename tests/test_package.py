"""Importing is cheap, and the public surface changes only on purpose."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

SURFACE = {
    "deepseek": [
        "Bundle", "DeepSeekInference", "LoRAConfig", "Predictor", "Recipe", "Server", "Table", "__version__",
        "from_pretrained", "load_recipe", "run_recipe",
    ],
    "deepseek.artifacts": ["NpmFile", "PackageFile", "cache_dir", "fetch", "snapshot", "unpack"],
    "deepseek.bundles": ["Bundle", "CompiledRecord", "DataRecord", "Manifest", "add_compiled", "write_bundle"],
    "deepseek.data": ["CleaningConfig", "CleaningReport", "CleaningResult", "CleanupReport", "CompactionReport", "Dataset", "DriftConfig", "DriftMonitor", "DriftReport", "ENGINES", "Engine", "FeatureStore", "FeatureView", "IndexInfo", "IngestReport", "Loader", "MaterializationReport", "ONLINE_STORES", "OnDemand", "OnlineStore", "SOURCES", "Sampler", "Source", "SplitConfig", "Table", "TableVersion", "UpsertReport", "assign_splits", "assign_splits_table", "blob_field", "clean", "clean_table", "datasets", "drift", "get_engine", "ingest", "on_demand", "open_online_store", "open_source", "profile", "sql", "vector_field"],
    "deepseek.hub": ["Entry", "entries", "pull"],
    "deepseek.inference": ["RUNTIMES", "Predictor", "Quantized", "Runtime", "evaluate", "profile", "quantize"],
    "deepseek.inference.choice": ["Choice", "Trial", "choose"],
    "deepseek.inference.exporting": ["EXPORT_FORMATS", "ExportFormat", "ExportReport", "Source", "export"],
    "deepseek.inference.generation": ["CORES", "Completion", "CoreSettings", "GenerationCore", "GenerationEngine", "Grammar", "Piece", "SamplingParameters", "Step", "Stream", "TokenLogprobs"],
    "deepseek.inference.hardware": ["Bandwidth", "Finding", "Hardware", "HardwarePeaks", "ProductPeak", "examine", "keep", "kept", "measure", "peaks"],
    "deepseek.inference.kernels": ["PackedInt4", "PackedInt8", "decode_attention", "pack_int4", "pack_int8", "weight_only_matmul"],
    "deepseek.inference.profiling": ["Breakdown", "Limit", "Outside", "Part", "Phase", "Profile", "Sizes", "Work", "decode_work", "forward_work", "limit_of", "prefill_work", "profile", "profile_generation", "reference"],
    "deepseek.models": [
        "CATALOGUE", "Checkpoint", "Conversion", "ConversionReport", "LoRAConfig", "ModelCard", "convert", "convert_model",
        "from_config", "from_pretrained", "processor_for", "resolve", "resolve_targets", "tokenizer_for", "train_tokenizer",
    ],
    "deepseek.monitoring": ["Label", "ModelMeter", "ModelState", "MonitoringConfig", "Objective", "ServerMonitor", "export_rules"],
    "deepseek.plugins": ["Plugin", "Registry", "discover"],
    "deepseek.recipe": ["Recipe", "RecipeError", "RunResult", "json_schema", "load_recipe", "plan_recipe", "read_recipe", "run_recipe", "tune_recipe"],
    "deepseek.serving": ["DeepSeekInference", "MicroBatcher", "ModelRepository", "Server", "ServingConfig"],
    "deepseek.tasks": ["TASKS", "Executable", "Field", "Generated", "Signature", "Task", "TextTask"],
    "deepseek.training": ["AdapterRecipe", "FitResult", "TrainingConfig", "TrainingRecipe", "fit", "plan_fit", "tfidf_baseline"],
}  # fmt: skip


def imported_by(statement: str) -> set[str]:
    code = f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout))


def test_importing_the_package_imports_nothing_heavy() -> None:
    modules = imported_by("import deepseek")
    heavy = {"torch", "transformers", "lance", "pyarrow", "pydantic", "numpy", "grpc", "typer", "rich", "duckdb"}
    assert not heavy & modules


@pytest.mark.parametrize("layer", [name for name in SURFACE if name != "deepseek"])
def test_importing_a_layer_imports_no_torch(layer: str) -> None:
    assert not {"torch", "transformers", "peft"} & imported_by(f"import {layer}")


def test_training_on_rows_at_hand_imports_no_table() -> None:
    modules = imported_by("import deepseek.training.fine_tuning, deepseek.training.loop.training_run")
    assert not {"lance", "duckdb", "deepseek.data.table"} & modules


def test_help_imports_no_torch() -> None:
    statement = (
        "sys.argv = ['deepseek', '--help']\nfrom deepseek.cli import main\ntry:\n    main()\nexcept SystemExit: pass"
    )
    code = f"import sys\n{statement}\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip().endswith("False")


@pytest.mark.parametrize("name", SURFACE)
def test_public_names_are_frozen_and_there(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == sorted(SURFACE[name])
    for public in module.__all__:
        assert getattr(module, public) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = module.nonsense


def test_the_package_is_typed() -> None:
    import deepseek

    assert (Path(deepseek.__file__).parent / "py.typed").exists()
