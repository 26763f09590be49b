"""The parts of `make bench NAME=data`: one file a figure or group of figures, and the measured processes' steps.

Files named ``*_steps.py`` run in measured processes: ``our_*`` in the package's environment, ``peer_*`` in a peer's.
"""
