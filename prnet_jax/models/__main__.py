"""The table of the networks, or the arrays of one.

python -m prnet_jax.models
python -m prnet_jax.models unet
"""

import argparse
import importlib
import pathlib
import sys
from typing import Any

from prnet_jax.commands import Help, examples, run_command
from prnet_jax.models import create_model, list_models

_SIDE = 512


def main(argv: list[str] | None = None) -> int:
    """The exit code: see `prnet_jax.commands`."""
    parser = argparse.ArgumentParser(
        prog="python -m prnet_jax.models",
        description="Prints the networks with their size, cost and origin as a Markdown table; or "
        "every array of one, with its shape.",
        epilog=examples(__doc__),
        formatter_class=Help,
    )
    parser.add_argument(
        "one", nargs="?", metavar="NAME|RUN", help="a network at its defaults, or a run directory"
    )
    one = parser.parse_args(argv).one
    return run_command(lambda: print(arrays(one) if one else table()))


def arrays(one: str) -> str:
    """The parameters of a network, one row an array.

    Args:
        one: the name of a network, for its defaults, or a run directory.

    Raises:
        InputError: it is neither.
    """
    from clu import parameter_overview  # here, so that --help is fast

    size, model = _SIDE, None
    if one not in list_models() and pathlib.Path(one).exists():
        from prnet_jax import steps
        from prnet_jax.run.directory import read_run

        config, _ = read_run(one)
        size, model = config.dataset.image_size, steps.make_model(config)
    variables = _shapes(model or create_model(one), size)
    return parameter_overview.get_parameter_overview(variables["params"], include_stats=False)


def table() -> str:
    """One row a network, at its defaults and with one channel in and out.

    GFLOP are the operations (a multiply-add is two) that one 512x512 image takes in evaluation.
    """
    header = ("name", "network", "parameters", "GFLOP", "sides", "heads", "reference", "licence")
    lines: list[tuple[str, ...]] = [
        header,
        ("---", "---", "--:", "--:", "---", "--:", "---", "---"),
    ]
    lines += [_row(name) for name in list_models()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _row(name: str) -> tuple[str, ...]:
    # Here, so that --help is fast.
    import jax

    from prnet_jax.models.operations import gflop

    model = create_model(name)
    about = importlib.import_module(f"prnet_jax.models.{name}").ABOUT
    image = jax.ShapeDtypeStruct((1, _SIDE, _SIDE, model.in_channels), "float32")
    variables = _shapes(model, _SIDE)

    def run(variables: Any, image: jax.Array, all_heads: bool):
        return model.apply(variables, image, train=False, all_heads=all_heads)

    heads = jax.eval_shape(lambda v, x: run(v, x, True), variables, image)
    operations = gflop(lambda v, x: run(v, x, False), variables, image)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return (
        f"`{name}`",
        about["network"],
        f"{parameters:,}",
        "-" if operations is None else f"{operations:.1f}",
        about["sides"],
        str(len(heads)),
        about["reference"],
        about["licence"],
    )


def _shapes(model: Any, size: int) -> Any:
    """The variables of a network for square images of that side, without their values."""
    import jax

    image = jax.ShapeDtypeStruct((1, size, size, model.in_channels), "float32")
    key = jax.random.key(0)
    return jax.eval_shape(lambda x: model.init(key, x, train=False), image)


if __name__ == "__main__":
    sys.exit(main())
