"""The public names, and that they cost nothing until they are used."""

import subprocess
import sys

from deepseek import data


def test_public_names_resolve():
    assert sorted(data.__all__) == [
        "CleaningConfig",
        "CleaningReport",
        "CleaningResult",
        "CleanupReport",
        "CompactionReport",
        "Dataset",
        "DriftConfig",
        "DriftMonitor",
        "DriftReport",
        "ENGINES",
        "Engine",
        "FeatureStore",
        "FeatureView",
        "IndexInfo",
        "IngestReport",
        "Loader",
        "MaterializationReport",
        "ONLINE_STORES",
        "OnDemand",
        "OnlineStore",
        "SOURCES",
        "Sampler",
        "Source",
        "SplitConfig",
        "Table",
        "TableVersion",
        "UpsertReport",
        "assign_splits",
        "assign_splits_table",
        "blob_field",
        "clean",
        "clean_table",
        "datasets",
        "drift",
        "get_engine",
        "ingest",
        "on_demand",
        "open_online_store",
        "open_source",
        "profile",
        "sql",
        "vector_field",
    ]
    assert all(getattr(data, name) is not None for name in data.__all__)


def test_import_is_lazy():
    heavy = "{'lance', 'pyarrow', 'numpy', 'pydantic', 'rensa', 'torch'}"
    script = f"import sys, deepseek.data; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_catalogue_needs_no_arrow():
    script = "import sys; from deepseek.data import datasets; datasets.cards(); print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
