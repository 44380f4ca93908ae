"""Weights between PyTorch and Flax: python -m prnet_jax.torch_weights import|export|compare

python -m prnet_jax.torch_weights import --model unet weights.pth OUT
python -m prnet_jax.torch_weights export RUN weights.safetensors
python -m prnet_jax.torch_weights compare --model unet weights.pth --reference my.unet:UNet
"""

import argparse
import pathlib
import sys
from collections.abc import Callable

import jax
import numpy as np

from prnet_jax.commands import name_and_value
from prnet_jax.errors import InputError
from prnet_jax.models import list_models, model_fields
from prnet_jax.torch_weights import layers
from prnet_jax.torch_weights.convert import from_torch, to_torch
from prnet_jax.torch_weights.files import read_state_dict, write_state_dict

_OWN_REFERENCE = {"prnet": "prnet_jax.torch_reference:PRNet"}


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, 2 for a person's mistake, 1 where `compare` finds a difference."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def import_weights(arguments: argparse.Namespace) -> int:
    """A file of weights -> a folder that a training starts from, in float32."""
    name, fields = arguments.model, dict(arguments.field)
    variables = from_torch(name, read_state_dict(arguments.weights), **fields)
    found = {str(x.dtype) for x in jax.tree.leaves(variables)} - {"float32"}
    variables = jax.tree.map(lambda x: x.astype(np.float32), variables)

    from prnet_jax.run.variables import save_variables

    save_variables(arguments.folder, name, model_fields(name) | fields, variables)
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    became = f", {' and '.join(sorted(found))} made float32" if found else ""
    print(f"{name}, {count:,} parameters{became}: {arguments.folder}")
    print(f"A training starts from it by --config.init_from={arguments.folder}")
    return 0


def export_weights(arguments: argparse.Namespace) -> int:
    """A run's best checkpoint, or what import wrote -> a file of weights."""
    from absl import logging

    from prnet_jax.run.variables import load_variables, network_of

    logging.set_verbosity(logging.ERROR)  # Orbax misses a file that a run does not need
    name, fields = network_of(arguments.folder)
    if arguments.model not in (None, name):
        raise InputError(f"{arguments.folder} holds {name}, not {arguments.model}: mend --model")
    state_dict = to_torch(name, load_variables(arguments.folder), **fields)
    write_state_dict(arguments.weights, state_dict)
    print(f"{name}, {len(state_dict)} arrays: {arguments.weights}")
    return 0


def compare_weights(arguments: argparse.Namespace) -> int:
    """Flax against a torch module on a file of weights, or on the parity vectors."""

    name, fields = arguments.model, dict(arguments.field)
    variables = None
    if arguments.weights is not None:
        variables = from_torch(name, read_state_dict(arguments.weights), **fields)
        print(f"{arguments.weights} holds the names and shapes of {name}, all finite.")
    elif arguments.reference is not None:
        raise InputError("--reference is compared on weights: name their file")

    failed = False
    if variables is not None and (arguments.reference or name in _OWN_REFERENCE):
        where, reference_fields = arguments.reference, dict(arguments.reference_field)
        if where is None:
            where, reference_fields = _OWN_REFERENCE[name], fields | reference_fields
        reference = layers.load_reference(where, reference_fields)
        size = arguments.size
        print(f"{name} against {where}, float32, {size}x{size} pixels of noise\n", flush=True)
        differences = layers.layer_differences(name, variables, fields, reference, size)
        print(layers.table(differences))
        failed = any(d.fails for d in differences)
    else:
        print("No PyTorch module given (--reference): the network on its stored parity vectors.")
        for vectors, dtype, differences in layers.parity(name, fields):
            print(f"\n{vectors}, {dtype}\n{layers.table(differences)}", flush=True)
            failed |= any(d.fails for d in differences)
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prnet_jax.torch_weights",
        description="Moves weights between PyTorch and Flax: .pth, .pt, .safetensors and .npz.",
    )
    commands = parser.add_subparsers(required=True, metavar="import | export | compare")

    def command(name: str, run: Callable, what: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=what, description=what)
        added.set_defaults(run=run)
        return added

    def add_fields(to: argparse.ArgumentParser, flag: str, what: str) -> None:
        to.add_argument(
            flag, metavar="NAME=VALUE", type=name_and_value, action="append", default=[], help=what
        )

    models = f"one of {', '.join(list_models())}"
    endings = ".pth, .pt, .safetensors or .npz"
    field_help = "a field of the network, such as bilinear=true; may be repeated"

    sub = command("import", import_weights, "A file of PyTorch weights -> a folder to start from.")
    sub.add_argument("--model", required=True, help=models)
    add_fields(sub, "--field", field_help)
    sub.add_argument("weights", type=pathlib.Path, help=endings)
    sub.add_argument("folder", type=pathlib.Path, metavar="OUT", help="a new folder")

    sub = command("export", export_weights, "A run's best checkpoint -> a file of PyTorch weights.")
    sub.add_argument("--model", help="checked against what the folder holds")
    sub.add_argument("folder", type=pathlib.Path, metavar="RUN", help="or what import wrote")
    sub.add_argument("weights", type=pathlib.Path, help=f"a new {endings}")

    sub = command(
        "compare",
        compare_weights,
        "Flax against PyTorch: layer by layer on the weights where a PyTorch module is given (for "
        "prnet its own), else on the parity vectors of a checkout.",
    )
    sub.add_argument("--model", required=True, help=models)
    add_fields(sub, "--field", field_help)
    sub.add_argument("weights", type=pathlib.Path, nargs="?", help=endings)
    sub.add_argument("--reference", metavar="MODULE:CLASS", help="a torch.nn.Module; is imported")
    add_fields(sub, "--reference-field", "an argument of that class, such as n_channels=1")
    sub.add_argument("--size", type=int, default=64, help="side of the image (default 64)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
