"""What causal and masked language modelling share: packed sequences, chat turns, masks and token scores."""
