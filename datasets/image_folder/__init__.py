"""A person's own images and masks."""
