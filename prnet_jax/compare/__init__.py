"""Evaluated runs beside each other: python -m prnet_jax.compare RUN... --out DIR"""
