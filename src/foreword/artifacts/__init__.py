"""What a run leaves behind: folders with numbers, a manifest and a model card."""
