"""The runs of a study, each once: which there are, how they are run, and where they are kept."""
