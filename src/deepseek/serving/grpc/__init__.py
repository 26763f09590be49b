"""gRPC: services as tables of plain async functions, and two fronts that serve them, in Rust and by grpc.aio."""
