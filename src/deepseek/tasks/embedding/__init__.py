"""What sentence embeddings are made and judged by: pooling, contrastive losses, retrieval."""
