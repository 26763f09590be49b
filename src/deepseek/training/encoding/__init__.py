"""Rows to training features in an Arrow file that is mapped into memory, so that a table may be larger than memory."""
