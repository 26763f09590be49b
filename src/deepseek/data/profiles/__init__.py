"""Statistics of a table's columns: what a bundle keeps as reference, and how far other data lies from it."""

from deepseek.data.profiles.statistics import profile

__all__ = ["profile"]
