"""ONNX Runtime as a runtime: converted once, kept in the cache, run by the provider of the device at hand."""
