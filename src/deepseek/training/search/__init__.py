"""Search over the settings of a recipe, pruned and resumable: Optuna here, Ray Tune on a cluster."""
