"""A strategy as transformers' ``TrainingArguments`` take it, checked before any process starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from deepseek.errors import ConfigError, MissingExtraError, UnknownNameError
from deepseek.training.distributed import ranks
from deepseek.training.distributed.config import DistributedConfig

FSDP_OPTIONS = frozenset({
    "activation_checkpointing", "auto_wrap_policy", "backward_prefetch", "cpu_offload", "cpu_ram_efficient_loading",
    "forward_prefetch", "limit_all_gathers", "min_num_params", "reshard_after_forward", "state_dict_type",
    "sync_module_states", "transformer_layer_cls_to_wrap", "use_orig_params", "version",
})  # fmt: skip
"""Keys of transformers' ``fsdp_config`` that a recipe may set."""


def strategy_arguments(config: DistributedConfig | None) -> dict[str, Any]:
    """``TrainingArguments`` of a strategy: the timeout, FSDP's or DeepSpeed's configuration.

    ``None`` is a process that a user's own launcher started: plain data-parallel training.

    Raises:
        ConfigError: an option is not known or of the wrong form, or a user's launcher started another number of
            processes than the recipe says.
        MissingExtraError: DeepSpeed is not installed.
    """
    if config is not None and ranks.launched() and config.workers != ranks.world_size():
        raise ConfigError(
            f"training.distributed.workers is {config.workers}, but the launcher started {ranks.world_size()} "
            "processes; make them agree, or leave training.distributed out under a launcher of your own"
        )
    config = config or DistributedConfig()
    arguments: dict[str, Any] = {"ddp_timeout": round(config.timeout) or 1}
    if config.strategy == "fsdp":
        options = {key.removeprefix("fsdp_"): value for key, value in config.options.items()}
        for key in options:
            if key not in FSDP_OPTIONS:
                raise UnknownNameError("FSDP option", key, FSDP_OPTIONS)
        # whole weights in checkpoints: files that plain transformers and PEFT open, on any number of workers
        arguments |= {"fsdp": True, "fsdp_config": {"version": 2, "state_dict_type": "FULL_STATE_DICT", **options}}
    elif config.strategy == "deepspeed":
        if importlib.util.find_spec("deepspeed") is None:
            raise MissingExtraError(
                "strategy deepspeed needs DeepSpeed; install it with: pip install 'deepseek[deepspeed]'"
            )
        arguments["deepspeed"] = _deepspeed(config.options)
    return arguments


def check_strategy(config: DistributedConfig) -> None:
    """Raise what :func:`strategy_arguments` raises, before anything is started."""
    strategy_arguments(config)


def _deepspeed(options: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON configuration with what a recipe says elsewhere set to be taken from there."""
    zero = options.get("zero_optimization", {})
    if not isinstance(zero, Mapping) or zero.get("stage", 2) not in (0, 1, 2):
        # stage 3 stood still when its weights were gathered (DeepSpeed 0.19.8, two CPU workers)
        raise ConfigError(
            f"expected zero_optimization.stage 0, 1 or 2 in DeepSpeed's options, received {zero!r}; to share out the "
            "weights too, use strategy: fsdp"
        )
    for key in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "optimizer",
                "scheduler"):  # fmt: skip
        if options.get(key, "auto") != "auto":
            raise ConfigError(f"leave {key!r} out of DeepSpeed's options: the recipe's training settings decide it")
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "zero_allow_untested_optimizer": True,
        **{key: value for key, value in options.items() if key != "zero_optimization"},
        "zero_optimization": {"stage": 2, **zero},
    }
