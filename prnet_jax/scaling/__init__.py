"""What devices send each other in a training step: python -m prnet_jax.scaling"""
