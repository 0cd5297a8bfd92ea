"""What prompts are made with: places, starts, parameterizations, and settings inside settings."""
