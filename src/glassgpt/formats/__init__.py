"""What the outside world calls a model."""
