"""A checkpoint in another language: its trunk, with a vocabulary whose embeddings a dictionary gives."""
