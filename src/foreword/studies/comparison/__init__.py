"""Methods, data sets and seeds in one table."""
