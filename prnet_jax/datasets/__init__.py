"""The TFDS builders, importable as `prnet_jax.datasets.<name>` from a checkout or a wheel.

They live in the repository's `datasets/` folder, which has no `__init__.py`: a regular package of
that name would shadow Hugging Face's. In a checkout that folder is appended to this package's path;
in a wheel setup.cfg's `package_dir` has put the builders here already.
"""

import pathlib

_checkout = pathlib.Path(__file__).resolve().parents[2] / "datasets"
# Beside a wheel of ours that place is Hugging Face's, which has an __init__.py.
if _checkout.is_dir() and not (_checkout / "__init__.py").exists():
    __path__.append(str(_checkout))
