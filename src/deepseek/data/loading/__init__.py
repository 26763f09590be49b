"""Training access to tables: random rows, shuffled in constant memory, for workers and ranks, resumable exactly."""

from deepseek.data.loading.dataset import Dataset
from deepseek.data.loading.loader import Loader
from deepseek.data.loading.sampler import Sampler

__all__ = ["Dataset", "Loader", "Sampler"]
