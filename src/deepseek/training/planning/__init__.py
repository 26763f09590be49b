"""What a training run will take of memory and time, predicted before it starts, and the settings that fit a budget."""
