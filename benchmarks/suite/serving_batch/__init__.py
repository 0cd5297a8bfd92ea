"""Rows of many tasks in one batch, beside the bare model and other libraries."""
