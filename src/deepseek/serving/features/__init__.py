"""Feature-store reads as a service: one reader for REST and gRPC."""
