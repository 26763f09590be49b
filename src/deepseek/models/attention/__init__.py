"""Attention of DeepSeek-Base: dynamic positional encoding and the sparse activation gate, with its fast paths."""
