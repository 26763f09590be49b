"""Training reads rows of a table in any process, and goes on exactly where it stopped."""

import itertools
import json
import multiprocessing

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data import Table
from deepseek.data.loading import Dataset, Loader
from deepseek.data.table import vector_field
from deepseek.errors import ConfigError, TableError, UnknownNameError

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), vector_field("v", 4), ("image", pa.large_binary())])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rows = ({"id": n, "text": f"text {n}", "v": [n, 1, 2, 3], "image": bytes([n % 256]) * 5000} for n in range(203))
    table = Table.create(tmp_path_factory.mktemp("loading") / "t.lance", rows, schema=SCHEMA)
    table.append([{"id": 203 + n, "text": "more", "v": [0, 0, 0, 0], "image": b""} for n in range(20)])
    table.delete("id % 10 = 3")
    return table


IDS = [n for n in range(223) if n % 10 != 3]


def test_rows_by_position(table):
    dataset = Dataset(table)
    assert len(dataset) == len(IDS)
    row = dataset[3]
    assert (row["id"], row["text"], row["image"]) == (4, "text 4", b"\x04" * 5000)
    assert row["v"].tolist() == [4, 1, 2, 3]
    assert row["v"].dtype == np.float32
    row["v"][0] = 9  # training may write into it
    assert dataset[-1]["id"] == IDS[-1]
    assert [row["id"] for row in dataset.__getitems__([5, 0, 5])] == [IDS[5], 0, IDS[5]]
    with pytest.raises(IndexError):
        dataset[len(IDS)]


def test_conditions_columns_and_transforms(table):
    dataset = Dataset(table.path, ["id"], where="id >= 100 AND id % 2 = 0", transform=lambda row: row["id"] * 10)
    expected = [n * 10 for n in IDS if n >= 100 and n % 2 == 0]
    assert [dataset[n] for n in range(len(dataset))] == expected
    assert len(Dataset(table, where="id < 0")) == 0
    with pytest.raises(UnknownNameError, match="'idd'"):
        Dataset(table, ["idd"])
    with pytest.raises(UnknownNameError, match="'idd'"):
        Dataset(table, where="idd = 1")


def test_a_dataset_stays_at_its_version(tmp_path):
    table = Table.create(tmp_path / "t.lance", [{"id": n} for n in range(10)])
    dataset = Dataset(table.path)
    table.delete("id < 5")
    assert [dataset[n]["id"] for n in range(10)] == list(range(10))
    assert len(Dataset(table.path)) == 5
    assert len(Dataset(table.path, version=1)) == 10


def _ids(batch):
    return [row["id"] for row in batch]


@pytest.mark.parametrize("context", ["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_pytorch_workers_of_every_kind(table, context):
    from torch.utils.data import DataLoader

    dataset = Dataset(table, ["id", "image"], where="id >= 10")
    loader = DataLoader(dataset, batch_size=16, num_workers=2, multiprocessing_context=context, collate_fn=_ids)
    assert [n for batch in loader for n in batch] == [n for n in IDS if n >= 10]


def _fail_in_fork(path, answers):
    try:
        Table.open(path)
    except TableError as error:
        answers.put(str(error))


def test_tables_refuse_to_work_after_a_fork(table):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=_fail_in_fork, args=(table.path, answers))
    process.start()
    assert "forkserver" in answers.get(timeout=30)
    process.join()


def _batches(loader):
    return [batch["id"].tolist() for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_resumes_exactly_whatever_the_workers(table, workers):
    dataset = Dataset(table, ["id", "v"])
    whole = Loader(dataset, 16, seed=5)
    epochs = [_batches(whole), _batches(whole)]
    assert [sorted(n for batch in epoch for n in batch) for epoch in epochs] == [IDS, IDS]
    assert epochs[0] != epochs[1]
    assert len(whole) == len(epochs[0])
    loader = Loader(dataset, 16, seed=5, workers=workers, **({"multiprocessing_context": "fork"} if workers else {}))
    had = [batch["id"].tolist() for batch in itertools.islice(loader, 5)]
    state = json.loads(json.dumps(loader.state_dict()))
    fork = {"multiprocessing_context": "fork"} if workers == 0 else {}
    resumed = Loader(Dataset(table.path, ["id", "v"]), 16, seed=5, workers=2 - workers, **fork)
    resumed.load_state_dict(state)
    had += _batches(resumed)
    assert had == epochs[0]
    assert _batches(resumed) == epochs[1]
    if workers:
        # the same workers go back to where the state says, in the middle of what they were reading
        loader.load_state_dict(state)
        assert _batches(loader) == epochs[0][5:]


def test_ranks_share_an_epoch(table):
    dataset = Dataset(table, ["id"])
    shares = [_batches(Loader(dataset, 8, seed=1, rank=rank, world_size=3)) for rank in range(3)]
    assert sorted(n for share in shares for batch in share for n in batch) == IDS
    even = [_batches(Loader(dataset, 8, seed=1, rank=rank, world_size=3, drop_last=True)) for rank in range(3)]
    assert len({len(share) for share in even}) == 1
    assert all(len(batch) == 8 for share in even for batch in share)


def test_drop_last_moves_on_to_the_next_epoch(table):
    loader = Loader(Dataset(table, ["id"]), 64, drop_last=True)
    assert [len(batch) for batch in _batches(loader)] == [64, 64, 64]
    assert loader.epoch == 0
    assert len(_batches(loader)) == 3
    assert loader.epoch == 1


def test_a_state_of_other_rows_is_refused(table, tmp_path):
    state = Dataset(table, ["id"]).loader(8).state_dict()
    with pytest.raises(ConfigError, match="where is None there and 'id > 5' here"):
        Dataset(table, ["id"], where="id > 5").loader(8).load_state_dict(state)
    with pytest.raises(ConfigError, match="batch_size"):
        Dataset(table).loader(0)


def test_the_trainers_kind_of_loop(table):
    """What transformers' Trainer does: its own DataLoader with a seeded sampler over ``len`` and ``__getitems__``."""
    import torch
    from torch.utils.data import DataLoader, RandomSampler

    dataset = Dataset(table, ["id", "v"], transform=_example)
    sampler = RandomSampler(dataset, generator=torch.Generator().manual_seed(0))
    weights = torch.zeros(4, requires_grad=True)
    seen = []
    for batch in DataLoader(dataset, batch_size=32, sampler=sampler):
        loss = ((batch["inputs"] @ weights - batch["labels"]) ** 2).mean()
        loss.backward()
        seen += batch["labels"].tolist()
    assert sorted(seen) == IDS


def _example(row):
    return {"inputs": row["v"], "labels": float(row["id"])}


def test_importing_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys, deepseek.data.loading; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
