"""The table of the networks: python -m prnet_jax.models"""

import argparse
import importlib
from typing import Any

from prnet_jax.models import create_model, list_models

_SIDE = 512


def main() -> None:
    description = "Prints the networks with their size, cost and origin as a Markdown table."
    argparse.ArgumentParser(prog="python -m prnet_jax.models", description=description).parse_args()
    print(table())


def table() -> str:
    """One row a network, at its defaults and with one channel in and out.

    GFLOP are the operations (a multiply-add is two) that one 512x512 image takes in evaluation, as
    XLA counts them in the compiled program.
    """
    header = ("name", "network", "parameters", "GFLOP", "sides", "heads", "reference", "licence")
    lines = [header, ("---", "---", "--:", "--:", "---", "--:", "---", "---")]
    lines += [_row(name) for name in list_models()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _row(name: str) -> tuple[str, ...]:
    import jax  # here, so that --help is fast

    model = create_model(name)
    about = importlib.import_module(f"prnet_jax.models.{name}").ABOUT
    image = jax.ShapeDtypeStruct((1, _SIDE, _SIDE, model.in_channels), "float32")
    key = jax.random.key(0)
    variables = jax.eval_shape(lambda x: model.init(key, x, train=False), image)

    def run(variables: Any, image: jax.Array, all_heads: bool):
        return model.apply(variables, image, train=False, all_heads=all_heads)

    heads = jax.eval_shape(lambda v, x: run(v, x, True), variables, image)
    compiled = jax.jit(lambda v, x: run(v, x, False)).lower(variables, image).compile()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return (
        f"`{name}`",
        about["network"],
        f"{parameters:,}",
        f"{compiled.cost_analysis()['flops'] / 1e9:.1f}",
        about["sides"],
        str(len(heads)),
        about["reference"],
        about["licence"],
    )


if __name__ == "__main__":
    main()
