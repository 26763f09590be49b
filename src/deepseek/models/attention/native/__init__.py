"""Gated block attention and its search in C, for CPUs with AVX-512, or AMX's tiles."""
