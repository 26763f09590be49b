"""Parts of the LoRA benchmark: accuracy bars, cost, time to accuracy, and how well the planner predicts."""
