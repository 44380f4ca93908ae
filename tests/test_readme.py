"""The README's commands run, in their order, with stand-ins for what a reader has.

What needs a download, an account or an accelerator is left out here: `test_docs.py` checks the
flags of every command in every Markdown file.
"""

import importlib
import json
import pathlib
import shutil

import numpy as np
import pytest

from prnet_jax.models import create_model
from prnet_jax.torch_weights import to_torch
from tests import programs, runs, written
from tests.data.scans import nifti
from tests.datasets import made_up_folders
from tests.launch.scripts import PYTHON, launch
from tests.model_tester import noise
from tests.torch_weights.saved import save

# A word with one of these marks a command that needs a download, an accelerator or a cloud, or that
# is tested elsewhere: the table of networks in test_docs.py.
_NOT_HERE = ("pip", ":lungs", "bfloat16", "tpu_vm.sh", "prnet_jax.models")
_UNET = {"widths": (4, 4, 8)}
# Appended to a command, so that it takes a network that a CPU runs at once.
_TINY = {"--model": ["--field=widths=[4,4,8]"], "--image-size": ["--image-size=32"]}


class Reader:
    """A folder with a CT, images with masks and PyTorch weights, in which commands are run."""

    def __init__(self, folder: pathlib.Path, records: pathlib.Path):
        self.folder, self.records = folder, records
        hu = np.random.default_rng(0).integers(-1000, 400, (40, 50, 3)).astype(np.int16)
        (folder / "scans").mkdir(parents=True)
        for name in ("ct.nii.gz", "scans/other.nii.gz"):
            nifti(folder / name, hu, np.diag([-0.7, -0.7, 2.0, 1.0]))
        for patient in range(8):
            for kind, pixels in zip(
                ("images", "masks"), made_up_folders.picture(patient), strict=True
            ):
                made_up_folders.save(folder / "FOLDER" / kind / f"p{patient}.npy", pixels)
        variables, _ = noise(create_model("unet", **_UNET), (1, 16, 16, 1))
        save(to_torch("unet", variables, **_UNET), folder / "weights.pth")

    def train(self, words: list[str], starter: programs.Starter) -> None:
        """With the command's data set and variant: a tiny network, few images, one epoch."""
        fields = runs.tiny_fields(self.records, num_epochs=1, warmup_epochs=0.0)
        if any("prnet" in word for word in words):
            fields |= runs.PRNET
        if any(":own" in word for word in words):
            fields = {k: v for k, v in fields.items() if not k.startswith("dataset.options")}
        words = [word.replace("=FOLDER", f"={self.folder}/FOLDER") for word in words]
        if "--workdir" not in words:  # main starts in the repository
            file, _, variant = words[words.index("--config") + 1].partition(":")
            words += ["--workdir", f"runs/{pathlib.Path(file).stem}_{variant}"]
        place = words.index("--workdir") + 1
        words[place] = str(self.folder / words[place])
        starter.finish([*words, *runs.flags_of(fields)])

    def stand_in(self, run: str) -> None:
        """A copy of the run of `quick`, as if another network or seed had been trained."""
        copy = shutil.copytree(self.folder / "runs" / "prnet_quick", self.folder / run)
        network, _, seed = copy.name.partition("_")
        seed = int(seed) if seed.isdigit() else 0
        config = json.loads((copy / "config.json").read_text())
        config["model"]["name"], config["seed"] = network, seed
        (copy / "config.json").write_text(json.dumps(config))
        file = copy / "test" / "summary.json"
        summary = json.loads(file.read_text()) | {"network": network, "seed": seed}
        file.write_text(json.dumps(summary))

    def run(self, module: str, words: list[str]) -> None:
        """Any other command, in this process."""
        if module == "prnet_jax.compare":
            for run in words[: words.index("--out")]:
                if not (self.folder / run).exists():
                    self.stand_in(run)
        for option, more in _TINY.items():
            if option in words:
                words = [*words, *more]
        code = importlib.import_module(f"{module}.__main__").main(words)
        assert code == 0, (module, words)

    def launch(self, script: str, words: list[str]) -> None:
        """A script of launch/ with a stand-in for main."""
        fake = self.folder / "fake"
        fake.mkdir(exist_ok=True)
        words = [str(fake / word) if word.startswith("runs/") else word for word in words]
        done = launch(written.ROOT, fake, script, *words, PYTHON=PYTHON)
        assert done.returncode == 0, (script, words, done.stderr)


@pytest.mark.slow
def test_its_commands_run(records_dir, tmp_path, monkeypatch):
    text = (written.ROOT / "README.md").read_text(encoding="utf-8")
    reader = Reader(tmp_path / "reader", records_dir)
    monkeypatch.chdir(reader.folder)
    ran = []
    with programs.Starter(tmp_path / "programs") as starter:
        # A reader may begin with any section: trainings come first, else in their order.
        every = sorted(written.commands(text), key=lambda words: "prnet_jax.main" not in words)
        for first, *words in every:
            if any(mark in word for word in (first, *words) for mark in _NOT_HERE):
                continue
            if first == "bash":
                reader.launch(words[0].removeprefix("launch/"), words[1:])
            elif words[1] == "prnet_jax.main":
                reader.train(words[2:], starter)
            else:
                reader.run(words[1], words[2:])
            ran.append(words[0] if first == "bash" else words[1].removeprefix("prnet_jax."))
    assert {*ran} == {"launch/sweep.sh", "main", "predict", "evaluate", "compare", "torch_weights"}
    assert (reader.folder / "masks" / "ct.nii.gz").is_file()
    assert (reader.folder / "comparison" / "table.md").is_file()
    assert (reader.folder / "weights.safetensors").is_file()

    for block in written.blocks(text, "python"):
        names = {"array": np.zeros((40, 30), np.int16)}
        exec(block, names)
        assert names["result"].mask.shape == (40, 30)


def test_the_chinese_one_has_its_first_commands(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    chinese = (root / "README.zh.md").read_text(encoding="utf-8")
    first_screen = text[: text.index("\n## ")]
    commands = list(written.commands(chinese))
    assert commands == list(written.commands(first_screen)) and len(commands) > 3
    # And its table of guides leads wherever the README's sections lead.
    guides, known = (
        {link.partition("#")[0] for link in written.links(t) if link.startswith("docs/guides/")}
        for t in (text, chinese)
    )
    assert guides <= known
