"""Searches: many runs of one recipe with other settings, selected on a part of the training data."""
