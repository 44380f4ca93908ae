"""Speed and memory beside PyTorch in the same run: python -m prnet_jax.benchmark"""
