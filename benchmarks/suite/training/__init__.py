"""One step of training with every method and library, on the same batch."""
