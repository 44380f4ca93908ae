"""nnU-Net's own network, planned for square slices, and its training in PyTorch: see nnunet.py."""

import pathlib
import time
from typing import Any

from prnet_jax.errors import InputError

BASE_FEATURES, MOST_FEATURES = 32, 512  # channels of nnU-Net's first stage, and at most in 2-D
SMALLEST_MAP = 4  # pixels: no stage of nnU-Net has a smaller side
CHECKPOINT = "checkpoint.pt"


def plan(size: int, base: int = BASE_FEATURES) -> dict[str, Any]:
    """The fields of PlainConvUNet as nnU-Net's planner sets them for square slices.

    From the rules of nnU-Net 2 (`ExperimentPlanner` and `get_pool_and_conv_props`) for 2-D, pixels
    that are as high as wide, and patches that are the whole slice: sides are halved while they are
    at least twice `SMALLEST_MAP`; each stage has two 3x3 convolutions, on both ways; channels
    double from 32 up to 512. So 96 pixels give five stages, 6x6 at the lowest, and 256 give seven,
    4x4. After each convolution InstanceNorm with scale and bias, and LeakyReLU. The planner also
    sets the batch size, from the memory of a GPU; here it is the protocol's.

    Args:
        size: of the slices, in pixels.
        base: channels of the first stage; fewer make a smaller network that no planner would.

    Raises:
        InputError: a size that cannot be halved so often.
    """
    stages, side = 1, size
    while side >= 2 * SMALLEST_MAP:
        stages, side = stages + 1, -(-side // 2)
    step = 2 ** (stages - 1)
    if size % step:
        raise InputError(
            f"slices of {size}x{size} would be padded by nnU-Net: use a multiple of {step}"
        )
    return {
        "n_stages": stages,
        "features_per_stage": [min(MOST_FEATURES, base * 2**i) for i in range(stages)],
        "kernel_sizes": 3,
        "strides": [1] + [2] * (stages - 1),
        "n_conv_per_stage": 2,
        "n_conv_per_stage_decoder": 2,
        "conv_bias": True,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin_kwargs": {"inplace": True},
    }


def make_network(size: int, base: int, seed: int) -> Any:
    """The network with one logit, as nnU-Net initialises it (He, slope 0.01).

    Raises:
        InputError: a package is missing, or a size as for `plan`.
    """
    fields = plan(size, base)
    torch, PlainConvUNet = _packages()
    torch.manual_seed(seed)
    operations = {"conv_op": torch.nn.Conv2d, "norm_op": torch.nn.InstanceNorm2d}
    network = PlainConvUNet(
        input_channels=1, num_classes=1, nonlin=torch.nn.LeakyReLU, **operations, **fields
    )
    network.apply(PlainConvUNet.initialize)
    return network.to(memory_format=torch.channels_last)


def check_device(name: str) -> None:
    """Refuses a device that PyTorch does not have here.

    Raises:
        InputError: it does not; or a package is missing.
    """
    torch, _ = _packages()
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        line = str(error).partition("\n")[0]
        raise InputError(f"--device {name} cannot be used by PyTorch here: {line}") from None


def _packages() -> tuple[Any, Any]:
    """PyTorch and the class of nnU-Net's network.

    Raises:
        InputError: one of them is not installed.
    """
    try:
        import torch
        from dynamic_network_architectures.architectures.unet import PlainConvUNet
    except ImportError as error:
        raise InputError(
            f"{error.name} is not installed: pip install torch==2.13.0 && pip install --no-deps "
            "dynamic_network_architectures (with dependencies it would replace torch's CPU build)"
        ) from None
    return torch, PlainConvUNet


def loss_of(logits: Any, mask: Any, valid: Any, config: Any) -> Any:
    """BCE + Dice as `prnet_jax.losses.bce_dice`, the mean over the images; tensors [N, 1, H, W]."""
    import torch

    counts = torch.ones_like(mask) if valid is None else valid
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    pixels = (1, 2, 3)
    bce = (entropy * counts).sum(pixels) / counts.sum(pixels)
    prob = torch.sigmoid(logits) * counts
    shared, total = (prob * mask).sum(pixels), (prob + mask * counts).sum(pixels)
    dice = 1 - (2 * shared + 1) / (total + 1)
    return (config.bce_weight * bce + config.dice_weight * dice).mean()


class Training:
    """One fold: network, averaged weights, optimizer, and where it stands.

    Args:
        config: of the protocol, `prnet_jax.config`.
        folder: of the fold; a checkpoint in it is resumed.
        steps_per_epoch: of training.
        base: channels of the first stage.
        device: of PyTorch.
    """

    def __init__(
        self, config: Any, folder: pathlib.Path, steps_per_epoch: int, base: int, device: str
    ):
        import jax
        import numpy as np
        import torch

        from prnet_jax import optim, steps

        self.config, self.folder, self.device = config, folder, device
        self.network = make_network(config.dataset.image_size, base, config.seed).to(device)
        self.average = make_network(config.dataset.image_size, base, config.seed).to(device)
        kernels = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": kernels, "weight_decay": config.weight_decay}, {"params": others}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0)
        schedule = optim.make_schedule(config, steps_per_epoch)
        numbers = np.arange(config.num_epochs * steps_per_epoch)
        self.rates = np.asarray(jax.vmap(schedule)(numbers)).tolist()
        self.augment = jax.jit(steps.make_augment(config))
        self.at = {"step": 0, "epoch": 0, "best_dsc": -1.0, "best_epoch": 0, "train_s": 0.0}
        self.best = {name: value.clone() for name, value in self.average.state_dict().items()}
        if (folder / CHECKPOINT).exists():
            self._resume()

    def _resume(self) -> None:
        import torch

        path = self.folder / CHECKPOINT
        saved = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.at, self.best = saved["at"], saved["best"]

    def save(self) -> None:
        """Writes the checkpoint whole or not at all."""
        import torch

        parts = {"network": self.network, "average": self.average, "optimizer": self.optimizer}
        saved = {name: part.state_dict() for name, part in parts.items()}
        fresh = self.folder / f"{CHECKPOINT}.new"
        torch.save(saved | {"at": self.at, "best": self.best}, fresh)
        fresh.replace(self.folder / CHECKPOINT)

    def train(self, batch: Any) -> float:
        """One step; the batch is that of `prnet_jax.data.pipeline.train_batches`."""
        import torch

        from prnet_jax.data.pipeline import step_arrays

        images = [self._tensor(array) for array in self.augment(step_arrays(batch))]
        image, mask, valid = (*images, None)[:3]
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates[self.at["step"]]
        self.optimizer.zero_grad()
        loss = loss_of(self._logits(self.network, image), mask, valid, self.config)
        loss.backward()
        if not torch.isfinite(loss):
            raise InputError(f"the loss is {loss.item()} at step {self.at['step']}")
        if self.config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimizer.step()
        step = self.at["step"]
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
            for average, now in pairs:
                average.lerp_(now, 1 - decay)
        self.at["step"] += 1
        return loss.item()

    def predict(self, slices: Any) -> Any:
        """(index, probability float32 [S, S]) of every slice, by the averaged weights."""
        import torch

        from prnet_jax.data.pipeline import eval_batches

        self.average.eval()
        threads = self.config.dataset.num_threads
        for batch in eval_batches(slices, self.config.eval_batch_size, threads):
            with torch.no_grad():
                prob = torch.sigmoid(self._logits(self.average, self._tensor(batch["image"])))
            for index, one in zip(batch["index"], prob[:, 0].cpu().numpy(), strict=True):
                if index >= 0:
                    yield int(index), one

    def validate(self, slices: Any, epoch: int) -> float:
        """The mean DSC at the network's size after an epoch; the best weights so far are kept."""
        import numpy as np

        from prnet_jax.metrics import overlap

        threshold = self.config.threshold
        scores = [
            overlap(prob >= threshold, slices[i]["mask"][..., 0] > 0.5)["dsc"]
            for i, prob in self.predict(slices)
        ]
        dsc = float(np.nanmean(scores))
        self.at["epoch"] = epoch
        if dsc > self.at["best_dsc"]:
            self.at |= {"best_dsc": dsc, "best_epoch": epoch}
            self.best = {name: value.clone() for name, value in self.average.state_dict().items()}
        return dsc

    def cost(self) -> dict[str, float | int | None]:
        """The columns of cost, named as in `prnet_jax.evaluate.cost`."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from prnet_jax.benchmark.machine import peak_mib

        size, number = self.config.dataset.image_size, self.config.eval_batch_size
        image = torch.zeros(number, 1, size, size, device=self.device)
        image = image.to(memory_format=torch.channels_last)
        gpu = self.device.startswith("cuda")
        peak = torch.cuda.max_memory_allocated() / 2**20 if gpu else peak_mib()
        times = []
        with torch.no_grad():
            with FlopCounterMode(display=False) as counter:
                self.average(image)
            for _ in range(3):
                begin = time.perf_counter()
                self._logits(self.average, image).sum().item()  # waits for the device
                times.append(time.perf_counter() - begin)
        return {
            "parameters": sum(p.numel() for p in self.average.parameters()),
            "gflop": counter.get_total_flops() / number / 1e9,
            "train_minutes": self.at["train_s"] / 60,
            "peak_mib": peak,
            "seconds_per_slice": min(times) / number,
        }

    def _logits(self, network: Any, image: Any) -> Any:
        import torch

        half = self.config.dtype == "bfloat16"
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=half):
            return network(image).float()

    def _tensor(self, array: Any) -> Any:
        """[N, H, W, 1] -> [N, 1, H, W] float32 on the device."""
        import numpy as np
        import torch

        tensor = torch.from_numpy(np.array(array, np.float32)).permute(0, 3, 1, 2)
        return tensor.to(self.device, memory_format=torch.channels_last)
