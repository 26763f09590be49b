"""vLLM as a generation core, for NVIDIA and AMD GPUs."""
