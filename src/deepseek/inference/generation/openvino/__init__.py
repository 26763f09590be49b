"""Language models as OpenVINO graphs, on a paged cache."""
