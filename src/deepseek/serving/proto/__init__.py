"""The Open Inference Protocol's gRPC messages: ``open_inference.proto`` and the Python generated from it."""
