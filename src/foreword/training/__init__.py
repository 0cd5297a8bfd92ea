"""Learning: settings, loop, schedules, checkpoints, tracking."""
