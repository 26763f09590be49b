"""Open Inference Protocol v2 (KServe): tensors in JSON or protobuf on one side, rows of a signature on the other."""
