"""C sources for the processor's own instructions: compiled where they run, once, with what they share."""
