"""Training on several processes, devices or nodes: accelerate on one machine, Ray Train on a cluster."""
