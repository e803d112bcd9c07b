"""Programs that show pageform at work. Each runs with `python -m examples.<name>` from the repository's root."""
