"""Gated block attention in C, for CPUs that multiply bfloat16 in tiles."""
