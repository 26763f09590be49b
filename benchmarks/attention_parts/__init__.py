"""Parts of the attention benchmark."""
