"""Schemathesis against a running server: no server error and no undocumented status, type or body, whatever it sends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from feature_fakes import feature_store
from schemathesis_environment import schemathesis
from serving_fakes import CONFIG, FakeArrays, FakeClassifier
from upload_fakes import FakeImages

from deepseek.serving import Server
from deepseek.serving.features.config import FeatureServingConfig

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = feature_store(tmp_path_factory.mktemp("features"))
    store.materialize("visits")  # a view that is not online is a 503, which is a server error to schemathesis
    config = CONFIG.model_copy(update={"features": FeatureServingConfig(path=store.path)})
    models = [FakeClassifier(), FakeClassifier("org/topic"), FakeArrays(), FakeImages()]
    with Server(config, models) as server:
        yield server.http_url


def check(url: str, folder: Path, examples: int, seconds: float) -> None:
    done = schemathesis(
        "run", f"{url}/openapi.json", "--checks", ",".join(CHECKS), "--max-examples", str(examples), "--seed", "1",
        "--no-shrink", "--suppress-health-check", "all", "--continue-on-failure",
        folder=folder, seconds=seconds,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated is not None
    assert int(generated[1]) > 500


def test_it_finds_nothing(url: str, tmp_path: Path) -> None:
    check(url, tmp_path, 3, 200)


@pytest.mark.slow
def test_it_finds_nothing_in_many_examples(url: str, tmp_path: Path) -> None:
    check(url, tmp_path, 100, 1500)
