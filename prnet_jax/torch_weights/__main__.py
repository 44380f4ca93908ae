"""Weights between PyTorch and Flax: python -m prnet_jax.torch_weights import|export|compare

python -m prnet_jax.torch_weights import --model unet weights.pth OUT
python -m prnet_jax.torch_weights export RUN weights.safetensors
python -m prnet_jax.torch_weights compare --model unet weights.pth --reference my.unet:UNet

Everything that takes time to import is imported inside the functions, so that --help is fast.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable

from prnet_jax import compiler
from prnet_jax.commands import Help, examples, name_and_value, run_command
from prnet_jax.errors import InputError
from prnet_jax.models import list_models, model_fields

_OWN_REFERENCE = {"prnet": "prnet_jax.torch_weights.reference:PRNet"}


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, 2 for a person's mistake, 1 if `compare` finds a difference."""
    arguments = _parser().parse_args(argv)
    compiler.disable_ynn()
    return run_command(lambda: arguments.run(arguments))


def import_weights(arguments: argparse.Namespace) -> int:
    """A file of weights -> a folder to start training from, in float32."""
    import jax
    import numpy as np

    from prnet_jax.run.variables import save_variables
    from prnet_jax.torch_weights.network import read_variables, which_network

    network = which_network(arguments.weights, arguments.model, dict(arguments.field))
    variables = read_variables(arguments.weights, network, arguments.entry, print)
    found = {str(x.dtype) for x in jax.tree.leaves(variables)} - {"float32"}
    variables = jax.tree.map(lambda x: x.astype(np.float32), variables)
    save_variables(
        arguments.folder, network.name, network.fields, variables, network.image_settings
    )
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    converted = f", {' and '.join(sorted(found))} converted to float32" if found else ""
    print(f"{network.name}, {count:,} parameters{converted}: {arguments.folder}")
    print(f"To train from it: --config.init_from={arguments.folder}")
    return 0


def export_weights(arguments: argparse.Namespace) -> int:
    """A run's best checkpoint, or a folder of imported weights -> a file of weights."""
    from prnet_jax.run.variables import load_variables, network_of
    from prnet_jax.torch_weights import to_torch
    from prnet_jax.torch_weights.files import write_state_dict
    from prnet_jax.torch_weights.network import metadata_of

    name, fields = network_of(arguments.folder)
    if arguments.model not in (None, name):
        raise InputError(
            f"{arguments.folder} holds {name}, not {arguments.model}: correct or omit --model"
        )
    state_dict = to_torch(name, load_variables(arguments.folder), **fields)
    write_state_dict(arguments.weights, state_dict, metadata_of(arguments.folder))
    print(f"{name}, {len(state_dict)} arrays: {arguments.weights}")
    return 0


def compare_weights(arguments: argparse.Namespace) -> int:
    """Flax against a torch module with the same weights, layer by layer."""
    from prnet_jax.torch_weights import layers
    from prnet_jax.torch_weights.network import read_variables, which_network

    network = which_network(arguments.weights, arguments.model, dict(arguments.field))
    name, fields = network.name, network.fields
    where, reference_fields = arguments.reference, dict(arguments.reference_field)
    if where is None:
        if name not in _OWN_REFERENCE:
            raise InputError(
                f"there is no PyTorch module of {name} here: name one by --reference MODULE:CLASS"
            )
        defaults = model_fields(name)
        changed = {k: v for k, v in fields.items() if v != defaults.get(k)}
        where, reference_fields = _OWN_REFERENCE[name], changed | reference_fields

    variables = read_variables(arguments.weights, network, arguments.entry, print)
    print(f"{arguments.weights} has the names and shapes of {name}; all values are finite.")
    reference = layers.load_reference(where, reference_fields)
    size = arguments.size
    print(f"{name} against {where}, float32, {size}x{size} pixels of noise\n", flush=True)
    differences = layers.layer_differences(name, variables, fields, reference, size)
    print(layers.table(differences))
    return int(any(d.fails for d in differences))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prnet_jax.torch_weights",
        description="Moves weights between PyTorch and Flax: files of torch.save (nothing in them "
        "is executed), .safetensors and .npz.",
        epilog=examples(__doc__),
        formatter_class=Help,
    )
    commands = parser.add_subparsers(required=True, metavar="import | export | compare")

    def command(name: str, run: Callable, what: str) -> argparse.ArgumentParser:
        epilog = examples(__doc__, name)
        added = commands.add_parser(
            name, help=what, description=what, epilog=epilog, formatter_class=Help
        )
        added.set_defaults(run=run)
        return added

    def add_fields(to: argparse.ArgumentParser, flag: str, what: str) -> None:
        to.add_argument(
            flag, metavar="NAME=VALUE", type=name_and_value, action="append", default=[], help=what
        )

    models = f"one of {', '.join(list_models())}; needed unless the file says it"
    endings = ".pth, .pt, .pth.tar, .ckpt, .bin, .safetensors or .npz"
    field_help = "a field of the network, such as bilinear=true; may be repeated"
    entry_help = "where in the file the weights are, such as ema; or what their names begin with"

    sub = command("import", import_weights, "A file of PyTorch weights -> a folder to start from.")
    sub.add_argument("--model", help=models)
    add_fields(sub, "--field", field_help)
    sub.add_argument("--entry", metavar="NAME", help=entry_help)
    sub.add_argument("weights", type=pathlib.Path, help=endings)
    sub.add_argument("folder", type=pathlib.Path, metavar="OUT", help="a new folder")

    sub = command("export", export_weights, "A run's best checkpoint -> a file of PyTorch weights.")
    sub.add_argument("--model", help="the network that RUN is expected to hold; checked if given")
    sub.add_argument("folder", type=pathlib.Path, metavar="RUN", help="or a folder from import")
    sub.add_argument("weights", type=pathlib.Path, help=f"a new file, {endings}")

    sub = command(
        "compare",
        compare_weights,
        "Flax against PyTorch, layer by layer with the same weights; exit code 1 if they differ.",
    )
    sub.add_argument("--model", help=models)
    add_fields(sub, "--field", field_help)
    sub.add_argument("--entry", metavar="NAME", help=entry_help)
    sub.add_argument("weights", type=pathlib.Path, help=endings)
    own = ", ".join(_OWN_REFERENCE)
    sub.add_argument(
        "--reference",
        metavar="MODULE:CLASS",
        help=f"a torch.nn.Module, which is imported; required unless the network is {own}",
    )
    add_fields(sub, "--reference-field", "an argument of that class, such as n_channels=1")
    sub.add_argument("--size", type=int, default=64, help="side of the image (default 64)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
