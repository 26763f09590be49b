"""The folder of a training run: recipe, data version, environment, curves, checkpoints; and trackers beside it."""
