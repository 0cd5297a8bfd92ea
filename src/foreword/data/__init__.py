"""From files to checked examples and padded batches; no neural network in here."""
