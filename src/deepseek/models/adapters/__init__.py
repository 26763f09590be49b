"""Adapters: LoRA configured in the article's terms, injected by PEFT, stored in PEFT's format."""

from __future__ import annotations

import logging

# PEFT imports bitsandbytes if it is installed, and that warns on CPUs of an optional kernel that is not used here
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
