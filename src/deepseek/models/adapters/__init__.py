"""Adapters: LoRA configured in the article's terms, injected by PEFT, stored in PEFT's format."""

from __future__ import annotations

import logging

# PEFT imports bitsandbytes if it is installed, and that warns on CPUs of an optional kernel that is not used here
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# and torchao, which warns of its GPU kernels that this build of PyTorch cannot load, and of how it registers its enums
logging.getLogger("torchao").setLevel(logging.ERROR)
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
