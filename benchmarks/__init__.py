"""One runnable file a claim; results/ holds what was measured, where, when, and with which versions."""
