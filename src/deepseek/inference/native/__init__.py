"""C sources for the processor's own instructions, compiled where they run, and the runtime of encoders among them.

Encoders are BERT and its likes in 8 bits. No padding is computed, no shape is prepared for, and a batch is one call.
"""
