"""The page of one comparison on example data, and the quickstart that makes it."""
