"""Looking inside a model while it answers."""
