"""A run directory: its files, checkpoints, provenance and log. Only this folder knows the names."""
