"""OpenVINO as a runtime: converted once, kept in the cache, compiled for the processor at hand."""
