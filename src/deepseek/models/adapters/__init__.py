"""Adapters: LoRA configured in the article's terms, injected by PEFT, stored in PEFT's format."""
