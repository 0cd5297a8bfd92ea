"""Using trained prompts: one task, or many tasks in one batch."""
