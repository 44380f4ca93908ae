"""Weights that travel: a folder with a card, here or as a repository of the Hugging Face Hub."""
