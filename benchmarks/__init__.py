"""Measurements, not tests: each prints its figures with the machine they were taken on."""
