"""What everything else may rely on: errors, words, threads. Imports no torch."""
