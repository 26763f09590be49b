"""Continuous batching over a paged key-value cache, for any model that runs on one."""
