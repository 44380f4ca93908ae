"""The config files of the eight networks and their variants."""

import json
import runpy

import pytest

from prnet_jax.config import check_config
from prnet_jax.models import list_models
from prnet_jax.run.directory import BEFORE_THE_FIELD
from prnet_jax.run.files import flat
from prnet_jax.steps import check_shapes, make_model
from prnet_jax.variants import VARIANTS


@pytest.mark.parametrize("network", list_models())
def test_every_variant_of_every_config(root, network):
    get_config = runpy.run_path(str(root / "configs" / f"{network}.py"))["get_config"]
    found = {variant: get_config(variant) for variant in ("", *VARIANTS)}
    seen = []
    for config in found.values():
        assert config.model.name == network
        check_config(config)
        if (shape := (config.model, config.dataset.image_size)) not in seen:
            check_shapes(config, make_model(config))
            seen.append(shape)
    full, small, own = found[""], found["lungs_small"], found["own_small"]
    assert small.model.widths != full.model.widths
    # Other data; the rest is that of a training on a CPU.
    assert own.dataset.name == "image_folder"
    own.dataset = small.dataset
    assert own == small
    assert found["own"].model == full.model and found["own"].num_epochs == full.num_epochs


def test_the_best_settings_are_those_of_the_results(root):
    best = runpy.run_path(str(root / "configs/prnet.py"))["get_config"]("best")
    folder = root / "docs/results/lungs_256/prnet-best_0_fold1of5"
    used = BEFORE_THE_FIELD | flat(json.loads((folder / "config.json").read_text()))
    used |= {"dataset.options.fold": "", "dataset.manual_dir": None}
    assert flat(json.loads(best.to_json())) == used
    check_config(best)
    check_shapes(best, make_model(best))


def test_table_1_has_one_protocol(root):
    """Whatever differs between the networks is their own: their fields and their loss."""
    for variant in ("table1", "table1_small"):
        protocols = []
        for network in list_models():
            get_config = runpy.run_path(str(root / "configs" / f"{network}.py"))["get_config"]
            config = get_config(variant).to_dict()
            for own in ("model", "loss", "head_weights"):
                del config[own]
            protocols.append(config)
        assert all(protocol == protocols[0] for protocol in protocols)
