"""Thin verbs: each parses, calls the library and prints."""
