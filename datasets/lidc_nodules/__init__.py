"""Nodule crops of LIDC-IDRI with the masks of four readers."""
