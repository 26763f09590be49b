"""REST over granian's RSGI interface: one application object, plain functions for routes, msgspec for JSON."""
