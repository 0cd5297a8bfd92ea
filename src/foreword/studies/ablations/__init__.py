"""Ablations: one recipe with one setting varied, several seeds each, as figures and tables."""
