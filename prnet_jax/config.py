"""Every setting and its default, one commented line each; `configs/*.py` say only what differs.

A field is set on the command line as `--config.field=value`; a misspelt one is refused.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from prnet_jax.data.prepare import option_meanings
from prnet_jax.data.preprocess import RESIZES
from prnet_jax.errors import InputError
from prnet_jax.models import create_model, model_fields
from prnet_jax.run.files import flat
from prnet_jax.variants import VARIANTS, Variant, builder_options


def default_config(network: str) -> ml_collections.ConfigDict:
    """The full configuration of a network of `list_models()`, trained on the phantom."""
    config = ml_collections.ConfigDict()
    config.seed = 0  # for the initial weights, the order of the images and the augmentation
    config.init_from = placeholder(str)  # a run, weights or the name of released ones to start from
    config.init_other_patients = placeholder(bool)  # its patients are others, even with equal ids
    config.dtype = "float32"  # of the computation; or "bfloat16". Parameters stay float32

    config.model = _fields(model_fields(network))  # the network's own fields, see its docstring
    config.model.name = network  # python -m prnet_jax.models lists them

    config.dataset = data = ml_collections.ConfigDict()
    data.name = "lung_phantom"  # a folder of datasets/
    data.options = builder_options(data.name)  # the builder's own, see its README
    data.manual_dir = placeholder(str)  # downloads made by hand; else $PRNET_MANUAL_DIR
    data.data_dir = placeholder(str)  # prepared records; else $TFDS_DATA_DIR
    data.mask = "mask"  # which mask of the record is the target
    data.image_size = 256  # the side of the square that the network sees, in pixels
    data.resize = "pad"  # to a square and resize; "stretch"; or cut out the "middle", not resized
    data.soft_mask = False  # learn the share of each resized pixel that is marked, not 0 or 1
    data.window_hu = (-1000.0, 400.0)  # is mapped to 0..1; (0.0, 255.0) for grey values
    data.num_threads = 2  # threads that read and resize
    data.cache = True  # keep resized slices in memory, 5 bytes a pixel, or 8 with soft masks

    config.augment = augment = ml_collections.ConfigDict()  # each 0: off
    augment.flip_horizontal = 0.5  # probability
    augment.flip_vertical = 0.5  # probability
    augment.rotate_degrees = 15.0  # largest angle
    augment.scale = 0.1  # largest relative change
    augment.shift = 0.05  # largest, as a fraction of the side
    augment.elastic = 0.0  # largest smooth displacement, as a fraction of the side
    augment.brightness = 0.05  # largest amount added
    augment.contrast = 0.1  # largest relative change
    augment.noise = 0.02  # largest standard deviation of added noise
    augment.gamma = 0.1  # largest change of the exponent's logarithm to base 2

    config.batch_size = 8  # images a step, over all devices
    config.accumulate_steps = 1  # parts that a batch is split into, to save memory
    config.remat = False  # recompute in the backward pass, to save memory
    config.shard_state = False  # spread parameters and optimizer over the devices (FSDP)
    config.num_epochs = 100  # an epoch is images // batch_size steps
    config.validate_every_epochs = 1  # epochs from one validation, and checkpoint, to the next
    config.learning_rate = 1e-3  # the peak
    config.warmup_epochs = 2.0  # linear from 0; a cosine follows, to the end
    config.final_learning_rate = 0.01  # as a fraction of the peak
    config.weight_decay = 1e-4  # of kernels only, decoupled (AdamW)
    config.clip_norm = 1.0  # global norm of the gradient; 0: off
    config.loss = "bce_dice"  # or "infnet", Inf-Net's own, over its five heads
    config.head_weights = ()  # bce_dice over all heads of a network; (): the main head alone
    config.bce_weight = 1.0  # of the binary cross-entropy in the loss
    config.dice_weight = 1.0  # of the Dice loss in the loss
    config.ema_decay = 0.0  # averaged weights, used for evaluation; 0: off
    config.early_stopping_epochs = 0  # stop after so many with no better validation; 0: off

    config.eval_batch_size = 8  # images an evaluation step, over all devices
    config.threshold = 0.5  # probability from which a pixel belongs to the mask
    config.profile_steps = ()  # (100, 105): trace the steps after the 100th up to the 105th
    config.log_every_steps = 10  # steps between lines of metrics.jsonl
    config.save_every_steps = 0  # in addition to those of validations; 0: off
    config.stop_within_s = 30.0  # of SIGTERM or Ctrl-C, saving included

    config.distributed = "auto"  # several processes if a cluster or the next lines say so; or "off"
    config.coordinator = placeholder(str)  # host:port of process 0, unless a cluster names it
    config.num_processes = placeholder(int)  # likewise
    config.process_id = placeholder(int)  # likewise, from 0
    config.dead_after_s = 60  # if a process is silent this long, the others end
    config.compilation_cache = "~/.cache/prnet_jax"  # compiled programs; "": no cache
    return config


def make_config(
    network: str, variant: str = "", own: Mapping[str, Variant] | None = None
) -> ml_collections.ConfigDict:
    """The configuration of a variant: one of `VARIANTS` or of `own`, or "" for the defaults.

    Raises:
        InputError: there is no such variant.
    """
    config = default_config(network)
    variants = VARIANTS | dict(own or {})
    if variant not in ("", *variants):
        raise InputError(f"no variant {variant!r}: choose one of {', '.join(variants)}, or none")
    if variant:
        variants[variant](config)
    return config


def scaled_config(
    network: str,
    variant: str,
    quick: tuple[int, ...],
    small: tuple[int, ...],
    own: Mapping[str, Variant] | None = None,
) -> ml_collections.ConfigDict:
    """`make_config` with the network's `widths` reduced where the variant is for a CPU.

    Args:
        network: a name of `list_models()`.
        variant: as for `make_config`.
        quick: the widths of the variant "quick".
        small: the widths of the variants "release", "release_fine" and "..._small".
        own: variants that this network alone has.
    """
    config = make_config(network, variant, own)
    if variant in ("quick", "release", "release_fine") or variant.endswith("_small"):
        config.model.widths = quick if variant == "quick" else small
    return config


def check_config(config: ml_collections.ConfigDict) -> None:
    """Refuses values that are wrong for every network and data set; these check the others.

    Raises:
        InputError: it names the field, the value and what the value must be.
    """

    def require(field: str, holds: Callable[[Any], bool], must: str) -> None:
        value = config
        for name in field.split("."):
            value = value[name]
        if not holds(value):
            raise InputError(f"config.{field} must be {must}, found {value!r}")

    require("dtype", lambda v: v in ("float32", "bfloat16"), "float32 or bfloat16")
    for field in (
        *("num_epochs", "validate_every_epochs", "accumulate_steps"),
        *("log_every_steps", "dead_after_s"),
        *("dataset.image_size", "dataset.num_threads"),
    ):
        require(field, lambda v: v >= 1, "1 or more")
    require("dataset.resize", lambda v: v in RESIZES, "pad, stretch or middle")
    require(
        "dataset.window_hu",
        lambda v: len(v) == 2 and -math.inf < v[0] < v[1] < math.inf,
        "(lower, upper) HU",
    )
    require("learning_rate", lambda v: v > 0, "above 0")
    require("loss", lambda v: v in ("bce_dice", "infnet"), "bce_dice or infnet")
    require("threshold", lambda v: 0 < v < 1, "between 0 and 1")
    require("ema_decay", lambda v: 0 <= v < 1, "from 0 (off) to below 1")
    for field in (
        *("weight_decay", "clip_norm", "warmup_epochs", "early_stopping_epochs"),
        *("save_every_steps", "stop_within_s"),
    ):
        require(field, lambda v: v >= 0, "0 or more")
    require(
        "profile_steps",
        lambda v: len(v) == 0 or (len(v) == 2 and 0 <= v[0] < v[1]),
        "() or (first, last), such as (100, 105)",
    )
    require("distributed", lambda v: v in ("auto", "off"), "auto or off")


def describe(config: ml_collections.ConfigDict) -> str:
    """Every field with its value, as it is set on the command line, and its meaning."""
    meanings = _meanings(config.model.name)
    order = list(meanings)
    values = flat(config.to_dict())
    options = option_meanings(config.dataset.name)
    # One that its builder does not comment on has the comment of all of them.
    known = {name: name if name in meanings else name.rpartition(".")[0] for name in values}
    lines = []
    for name in sorted(known, key=lambda name: order.index(known[name])):
        value = values[name]
        if isinstance(value, tuple) and value:
            value = ",".join(map(str, value))
        setting = f"--config.{name}" + (" (not set)" if value is None else f"={value}")
        between = " " * (44 - len(setting)) if len(setting) < 43 else f"\n{'':44}"
        option = name.removeprefix("dataset.options.")
        meaning = options.get(option) if option != name else None
        lines.append(f"{setting}{between}{meaning or meanings[known[name]]}")
    return "\n".join(lines)


def _meanings(network: str) -> dict[str, str]:
    """{field: its comment in `default_config`, or its lines in the network's docstring}."""
    source = inspect.getsource(default_config)
    comment = re.compile(r"^ +(?:config\.\w+ = )?(\w+)\.([\w.]+) = .*# (.+)$", re.MULTILINE)
    prefixes = {"config": "", "data": "dataset.", "augment": "augment."}
    attributes = inspect.getdoc(type(create_model(network))).partition("Attributes:\n")[2]
    attribute = re.compile(r"^    (\w[\w, ]*): (.+(?:\n     .+)*)", re.MULTILINE)
    meanings = {}
    for start, name, what in comment.findall(source):
        meanings[prefixes[start] + name] = what
        if name == "model":
            for names, what in attribute.findall(attributes):
                what = " ".join(what.split()).rstrip(".")
                meanings |= {f"model.{field}": what for field in names.split(", ")}
    return meanings


def _fields(defaults: dict) -> ml_collections.ConfigDict:
    """Defaults as a config. A field that is None takes an integer on the command line."""
    return ml_collections.ConfigDict(
        {name: placeholder(int) if value is None else value for name, value in defaults.items()}
    )
