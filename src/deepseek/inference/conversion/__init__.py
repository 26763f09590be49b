"""What converted copies of a checkpoint share: what is traced, how batches are fed, where copies are kept."""
