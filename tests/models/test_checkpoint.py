"""Names to folders: what a person types, and what they typed wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from deepseek.errors import ConfigError, FetchError, UnknownNameError
from deepseek.models import CATALOGUE, ModelCard, from_pretrained, resolve
from deepseek.models.catalogue import Catalogue


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_OFFLINE", "1")


def test_catalogue_name_gives_the_real_encoder(minilm: Path) -> None:
    from deepseek.artifacts.cache import sha256

    assert sha256(minilm / "model.safetensors").startswith("53aa5117")  # the official revision's weights
    found = resolve("all-minilm-l6-v2")
    assert found.name == "sentence-transformers/all-MiniLM-L6-v2"
    assert found.card is CATALOGUE["all-minilm-l6-v2"]


def test_a_folder_is_taken_as_it_is(minilm: Path) -> None:
    assert resolve(minilm).path == minilm.resolve()


def test_deepseek_7b_is_the_public_checkpoint_and_fails_at_once_offline(no_network: None) -> None:
    started = time.monotonic()
    with pytest.raises(FetchError) as caught:
        resolve("deepseek-7b")
    assert time.monotonic() - started < 30  # no retries for minutes
    message = str(caught.value)
    assert "deepseek-ai/" in message
    assert "7.6B" in message
    assert "HF_ENDPOINT" in message
    assert "path" in message


def test_hub_id_that_the_catalogue_has_points_to_it(no_network: None) -> None:
    with pytest.raises(FetchError, match="all-minilm-l6-v2"):
        resolve("sentence-transformers/all-MiniLM-L6-v2")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("all-minilm-l6", "all-minilm-l6-v2"),
        ("deepseek7b", "deepseek-7b"),
        ("./no/such/folder", "no such file or folder"),
        ("nonsense", "all-minilm-l6-v2"),
    ],
)
def test_unknown_names_say_the_nearest(typed: str, said: str) -> None:
    with pytest.raises(UnknownNameError, match=said):
        resolve(typed)


def test_a_path_with_a_typo_says_the_nearest_path(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(UnknownNameError, match=str(tmp_path / "bundle")):
        resolve(tmp_path / "bundel")


def test_folders_and_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ConfigError, match=r"config\.json.*notes\.txt"):
        resolve(tmp_path)
    with pytest.raises(ConfigError, match="gguf"):
        resolve(tmp_path / "notes.txt")
    (tmp_path / "fake.gguf").write_bytes(b"not gguf at all")
    with pytest.raises(ConfigError, match="GGUF"):
        resolve(tmp_path / "fake.gguf")
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    with pytest.raises(ConfigError, match="cannot be converted"):
        resolve(tmp_path / "cut.gguf")


def test_pickled_weights_are_never_loaded(tmp_path: Path) -> None:
    import torch
    import transformers

    config = transformers.BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    config.save_pretrained(tmp_path)
    torch.save(transformers.BertModel(config).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="safetensors"):
        from_pretrained(tmp_path)


def test_the_catalogue_refuses_a_name_twice() -> None:
    catalogue = Catalogue()
    card = ModelCard(name="a", title="", hub_id="o/a", head="encoder", parameters=1, license="MIT", paper="")
    catalogue.add(card)
    with pytest.raises(ConfigError, match="already"):
        catalogue.add(card)


def test_every_card_is_complete() -> None:
    for name, card in CATALOGUE.items():
        assert name == card.name == name.casefold()
        assert card.license
        assert card.paper.startswith("https://")
        assert card.hub_id.count("/") == 1
        assert card.parameters > 0
        if card.package:
            assert len(card.package.sha256) == 64
