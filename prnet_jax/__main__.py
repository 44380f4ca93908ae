"""Lists the commands: python -m prnet_jax"""

import sys

COMMANDS = {
    "main": "trains a network and scores it: --config configs/prnet.py:quick",
    "predict": "writes masks of your CT: files, folders, DICOM series",
    "evaluate": "scores a run on any split of any data set",
    "compare": "sets evaluated runs side by side: tables, tests and a page",
    "torch_weights": "moves weights between PyTorch and Flax",
    "models": "lists the networks, or the parameters of one",
    "benchmark": "speed and memory beside PyTorch in the same run",
    "scaling": "what devices send each other in a training step",
}


def main() -> int:
    """Prints one line for each command; exit code 0."""
    print(__doc__.splitlines()[0], end="\n\n")
    for name, what in COMMANDS.items():
        print(f"  python -m prnet_jax.{name:<14} {what}")
    print("\nEach has --help.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
