"""Evaluated runs side by side: python -m prnet_jax.compare RUN... --out DIR"""
