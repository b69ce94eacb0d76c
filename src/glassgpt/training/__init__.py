"""From batches to weights: one loop, and the stages that feed it."""
