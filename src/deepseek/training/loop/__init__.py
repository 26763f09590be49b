"""The training loop: transformers' ``Trainer``, driven by a task."""
