"""A conversation worth having."""
