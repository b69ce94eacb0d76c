"""Characters to ids and back. Imports no torch."""
