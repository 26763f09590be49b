"""`deepseek serve` of a real generating model with a real adapter, asked over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import peft
import pytest
import torch
import transformers

from deepseek.cli import serve
from deepseek.errors import ConfigError
from deepseek.serving import Server


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, smollm: Path) -> Path:
    """A Llama with random weights and SmolLM's tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, eos_token_id=tokenizer.eos_token_id, initializer_range=0.3,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "pirate"
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny)
    torch.manual_seed(5)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "o_proj"], init_lora_weights=False)
    peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


def completed(url: str, model: str) -> str:
    body = {"model": model, "prompt": "Ahoy", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def test_base_and_adapter_answer_under_their_names(
    tiny: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    found: dict[str, Any] = {}

    class Asked(Server):
        def run(self, on_ready: Any = None) -> None:
            with self:
                url = self.http_url
                found["models"] = [m["id"] for m in httpx.get(f"{url}/v1/models").json()["data"]]
                found["answers"] = [completed(url, name) for name in ("tiny", "pirate", "tiny")]

    monkeypatch.setattr("deepseek.serving.server.Server", Asked)
    serve.command([str(tiny)], http_port=0, grpc_port=0, device="cpu", adapter=[f"pirate={adapter}"])
    assert found["models"] == ["pirate", "tiny"]
    base, other, again = found["answers"]
    assert base == again != other
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    merged = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload().eval()
    ids = tokenizer("Ahoy", return_tensors="pt")
    start = ids["input_ids"].shape[1]
    # later tokens may be others in the precision that the command has chosen
    expected = tokenizer.decode(merged.generate(**ids, max_new_tokens=3, do_sample=False)[0, start:])
    assert other.startswith(expected)
    assert not base.startswith(expected)


@pytest.mark.parametrize("given", [["pirate"], ["=x"], ["a="], ["a=x", "a=y"]])
def test_adapters_that_are_not_named_well_are_refused(tiny: Path, given: list[str]) -> None:
    with pytest.raises(ConfigError, match="NAME=FOLDER"):
        serve.command([str(tiny)], adapter=given)


def test_an_adapter_needs_one_generating_model(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exactly one text-generation model"):
        serve.command([str(tiny), str(tiny)], adapter=[f"a={tmp_path}"])
