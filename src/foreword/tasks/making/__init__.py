"""What tasks are made with: labels, spans and words in texts, templates, and how predictions are read from logits."""
