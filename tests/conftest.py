"""What all tests share: real models and data, fetched once a session into the user's cache, and no progress bars."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deepseek import progress

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a background shell's; the commands under test would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    # threads of several test processes on the same cores would wait for each other; read when torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

SENTENCES = {
    "positive": ["a moving and funny film", "simply wonderful acting", "a joy from start to finish", "smart and warm"],
    "negative": ["a dull and tired mess", "painfully bad acting", "boring from start to finish", "loud and stupid"],
}


@pytest.fixture(autouse=True, scope="session")
def _no_bars() -> Iterator[None]:
    with progress.quiet():
        yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For modules of tiny models: threads would only wait for each other, most of all on busy cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """For choices among the other runtimes: TorchInductor takes half a minute for each of its precisions."""
    from deepseek.inference import RUNTIMES
    from deepseek.inference.runtime import Availability

    compiling = RUNTIMES.get("torch-compile")
    monkeypatch.setattr(compiling, "available", classmethod(lambda cls: Availability(False, (), "not in this test")))


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Eight labelled sentences."""
    return [{"text": t, "label": label} for label, texts in SENTENCES.items() for t in texts]


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the real MiniLM encoder."""
    from deepseek.models import resolve

    return resolve("all-minilm-l6-v2").path


@pytest.fixture(scope="session")
def smollm() -> Path:
    """The folder of the real SmolLM2-135M-Instruct, converted from its GGUF file."""
    from deepseek.models import resolve

    return resolve("smollm2-135m-instruct").path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A MiniLM with a LoRA adapter, trained for a moment on eight sentences: (model, tokenizer, task)."""
    from deepseek.training import TrainingRecipe, fit

    data = [{"text": t, "label": label} for label, texts in SENTENCES.items() for t in texts]
    recipe = TrainingRecipe(
        task={"name": "text-classification"},
        adapter={"name": "text_class", "r": 8, "alpha": 16},
        training={"epochs": 4, "batch_size": 8, "precision": "float32"},
    )
    result = fit("all-minilm-l6-v2", data * 4, recipe)
    return result.model, result.tokenizer, result.task


@pytest.fixture(scope="session")
def bundle(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The trained model as a bundle on disk."""
    from deepseek.bundles import write_bundle

    model, tokenizer, task = trained
    return write_bundle(
        tmp_path_factory.mktemp("bundle") / "sentiment",
        model=model,
        tokenizer=tokenizer,
        task=task,
        name="sentiment",
        base_model=model.base_name,
        license="Apache-2.0",
        metrics={"accuracy": 1.0},
    )


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Redis server, for whatever needs one; empty it before use."""
    from deepseek.data.features.online import open_online_store
    from deepseek.errors import OnlineStoreError

    program = shutil.which("redis-server")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed; CI must test against a real one (Debian: redis-server)")
        pytest.skip("redis-server is not installed (Debian: apt install redis-server)")
    folder = tmp_path_factory.mktemp("redis")
    socket = folder / "redis.sock"
    if len(str(socket)) > 100:  # a socket's path is limited to 107 bytes
        socket = tmp_path_factory.getbasetemp().parent / "r.sock"
    command = [program, "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        address = f"unix://{socket}"
        for _ in range(100):
            with contextlib.suppress(OnlineStoreError):
                open_online_store(address).close()
                break
            time.sleep(0.05)
        yield address
    finally:
        server.terminate()
        server.wait(10)
