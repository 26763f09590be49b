"""Generating models behind every protocol: continuous batching in one engine, whole answers and streams."""
