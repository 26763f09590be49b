"""Encoders in 8 bits for CPUs with AMX: BERT and its likes, in C that is compiled once.

No padding is computed, no shape is prepared for, and a batch is one call.
"""
