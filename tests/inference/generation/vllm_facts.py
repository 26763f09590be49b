"""What vLLM's public API is, read from a wheel's source without importing it.

    pip download vllm --no-deps -d FOLDER
    python vllm_facts.py FOLDER/vllm-0.33.0-...whl > vllm_facts.json

Names, order and plain defaults of parameters and fields that the core uses or the stub has; and a few values. A default
that is no literal is null.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

CLASSES = {
    "EngineArgs": "vllm/engine/arg_utils.py",
    "SamplingParams": "vllm/sampling_params.py",
    "StructuredOutputsParams": "vllm/sampling_params.py",
    "RequestOutputKind": "vllm/sampling_params.py",
    "LoRARequest": "vllm/lora/request.py",
    "CompletionOutput": "vllm/outputs.py",
    "Logprob": "vllm/logprobs.py",
    "TokensPrompt": "vllm/inputs/llm.py",
    "SpeculativeConfig": "vllm/config/speculative.py",
}
METHODS = {
    "LLMEngine": ("vllm/v1/engine/llm_engine.py", ["from_engine_args", "add_request", "step", "abort_request",
                  "has_unfinished_requests", "get_tokenizer"]),
    "RequestOutput": ("vllm/outputs.py", ["__init__"]),
    "SamplingParams": ("vllm/sampling_params.py", ["verify"]),
    "VLLMValidationError": ("vllm/exceptions.py", ["__init__"]),
    "Platform": ("vllm/platforms/interface.py", ["is_cuda_alike"]),
    "EngineCoreClient": ("vllm/v1/engine/core_client.py", ["shutdown"]),
}  # fmt: skip


def facts(wheel: Path) -> dict[str, Any]:
    """Everything, by name."""
    with zipfile.ZipFile(wheel) as archive:

        def read(path: str) -> str:
            return archive.read(path).decode()

        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        found: dict[str, Any] = {"version": re.findall(r"^Version: (.*)$", read(metadata), re.M)[0]}
        found["requires"] = [
            line for line in re.findall(r"^Requires-Dist: (.*)$", read(metadata), re.M)
            if re.match(r"(transformers|torch|xgrammar)\b[^;]*$|xgrammar", line)
        ]  # fmt: skip
        exported = next(
            node.value for node in ast.parse(read("vllm/__init__.py")).body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MODULE_ATTRS"
        )  # fmt: skip
        found["exported"] = ast.literal_eval(exported)
        found["classes"] = {name: fields_of(_class(read(path), name)) for name, path in CLASSES.items()}
        found["methods"] = {
            name: {method: parameters_of(_method(_class(read(path), name), method)) for method in methods}
            for name, (path, methods) in METHODS.items()
        }
        # values that the core's settings must be among
        found["max_lora_rank"] = _literal(read("vllm/config/lora.py"), "MaxLoRARanks")
        found["speculative_methods"] = sorted(
            set(re.findall(r'"(ngram|draft_model)"', read("vllm/config/speculative.py")))
        )
        found["logprobs_modes"] = _literal(read("vllm/config/model.py"), "LogprobsMode")
        found["environment"] = sorted(
            set(re.findall(r'"(VLLM_NO_USAGE_STATS|VLLM_ENABLE_V1_MULTIPROCESSING)"', read("vllm/envs.py")))
        )
        found["finish_reasons"] = ast.literal_eval(
            re.findall(r"^FINISH_REASON_STRINGS = (\(.*?\))", read("vllm/v1/engine/__init__.py"), re.M | re.S)[0]
        )
        found["most_temperature"] = float(
            re.findall(r"self\.temperature > ([\d.]+):", read("vllm/sampling_params.py"))[0]
        )
    return dict(json.loads(json.dumps(found)))  # as a file has it


def _class(source: str, name: str) -> ast.ClassDef:
    return next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name)


def _method(owner: ast.ClassDef, name: str) -> ast.FunctionDef:
    return next(node for node in owner.body if isinstance(node, ast.FunctionDef) and node.name == name)


def _default(node: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(node) if node is not None else None
    except ValueError:
        return None


def fields_of(owner: ast.ClassDef) -> dict[str, Any]:
    """Annotated fields, and names that an enumeration assigns, with their defaults."""
    found = {}
    for node in owner.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = _default(node.value)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = _default(node.value)
    return found


def parameters_of(method: ast.FunctionDef) -> list[str]:
    """Names of parameters without ``self`` and ``cls``; those with a default end in ``=``."""
    arguments = method.args
    named = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    optional = len(arguments.defaults)
    marked = named[: len(named) - optional] + [f"{name}=" for name in named[len(named) - optional :]]
    marked += [
        f"{a.arg}=" if d is not None else a.arg
        for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return [name for name in marked if name not in ("self", "cls")]


def _literal(source: str, name: str) -> list[Any]:
    """The values of ``NAME = Literal[...]``."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            assert isinstance(node.value, ast.Subscript)
            return list(ast.literal_eval(node.value.slice))
    raise LookupError(name)


if __name__ == "__main__":
    print(json.dumps(facts(Path(sys.argv[1])), indent=1))
