"""Pictures as rows hold them, and how they are varied in training."""
