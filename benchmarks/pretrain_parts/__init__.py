"""Parts of the pre-training benchmark."""
