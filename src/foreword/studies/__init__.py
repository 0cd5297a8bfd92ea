"""Comparisons and demonstrations built on training and inference."""
