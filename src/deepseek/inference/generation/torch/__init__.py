"""Text generation in PyTorch: continuous batching over a paged cache, for any standard transformers language model."""
