"""What a frozen trunk saves: no dropout, narrow weights, and the states of its lower layers computed once."""
