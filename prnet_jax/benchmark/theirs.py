"""The PyTorch side: the same work as `prnet_jax.benchmark.ours`, as PyTorch users would write it.

Networks are channels_last. In bfloat16 the training step uses autocast, inference a bfloat16 copy
of the network; float32 may use TF32, as JAX's does on GPUs.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from prnet_jax.benchmark import machine
from prnet_jax.benchmark.task import (
    CLIP_NORM,
    LEARNING_RATE,
    WEIGHT_DECAY,
    Task,
    attention_example,
    check_fields,
    example,
)
from prnet_jax.benchmark.torch_networks import NETWORKS
from prnet_jax.errors import InputError

Run = Callable[[int], None]


def about() -> dict[str, Any]:
    """The platform as JAX names it, the device, and versions."""
    on_gpu = torch.cuda.is_available()
    versions = {"torch": torch.__version__}
    return {
        "platform": "gpu" if on_gpu else "cpu",
        "device": torch.cuda.get_device_name() if on_gpu else machine.cpu_name(),
        "versions": versions,
        "networks": sorted(NETWORKS),
    }


def begin(task: Task, side: str) -> tuple[Run, dict[str, Any]]:
    """A function that does the task's work so many times, and no facts."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    makers = {"train": _train, "infer": _infer, "attention": _attention}
    return makers[task.part](task, side == "torch-compile"), {}


def peak_mib() -> float | None:
    """The largest memory since the first call: of the device, or on CPUs of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return machine.peak_mib()


def train_step(model: torch.nn.Module, dtype: str) -> Callable:
    """`step(image, mask) -> loss`: forward, loss, backward, clipping and AdamW."""
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": kernels, "weight_decay": WEIGHT_DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)
    device = next(model.parameters()).device.type

    def step(image, mask):
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(image)
        loss = bce_dice(logits.float(), mask)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        return loss.detach()

    return step


def bce_dice(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus soft Dice loss, as `prnet_jax.losses.bce_dice`, the mean over N."""
    prob = logits.sigmoid()
    shared = (prob * target).sum((2, 3))
    total = prob.sum((2, 3)) + target.sum((2, 3))
    dice = 1 - (2 * shared + 1) / (total + 1)
    return F.binary_cross_entropy_with_logits(logits, target) + dice.mean()


def make_network(task: Task) -> torch.nn.Module:
    """The network of a task on the device, channels_last.

    Raises:
        InputError: there is no such network, or it has no such field.
    """
    if task.model not in NETWORKS:
        raise InputError(f"there is no PyTorch side of {task.model}: {', '.join(NETWORKS)}")
    network, fields = NETWORKS[task.model]
    check_fields(task.model, task.fields, fields)
    return network(**task.fields).to(_device(), memory_format=torch.channels_last)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _tensors(task: Task) -> list[torch.Tensor]:
    """Image and mask of the example, [N, 1, S, S]."""
    batch = example(task)
    return [
        torch.from_numpy(batch[name])
        .permute(0, 3, 1, 2)
        .to(_device(), memory_format=torch.channels_last)
        for name in ("image", "mask")
    ]


def _train(task: Task, compiled: bool) -> Run:
    model = make_network(task).train()
    step = train_step(torch.compile(model) if compiled else model, task.dtype)
    image, mask = _tensors(task)

    def run(calls):
        for _ in range(calls):
            step(image, mask)
        _wait()

    return run


def _infer(task: Task, compiled: bool) -> Run:
    dtype = getattr(torch, task.dtype)
    model = make_network(task).eval().to(dtype)
    if compiled:
        model = torch.compile(model)
    image = _tensors(task)[0].to(dtype)

    def run(calls):
        with torch.inference_mode():
            for _ in range(calls):
                model(image)
        _wait()

    return run


def _attention(task: Task, compiled: bool) -> Run:
    dtype = getattr(torch, task.dtype)
    q, k, v = (
        torch.from_numpy(a).transpose(1, 2).to(_device(), dtype).requires_grad_()
        for a in attention_example(task)
    )

    def loss(q, k, v):
        out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        return out.float().square().sum()

    forward = torch.compile(loss) if compiled else loss

    def run(calls):
        for _ in range(calls):
            torch.autograd.grad(forward(q, k, v), (q, k, v))
        _wait()

    return run
