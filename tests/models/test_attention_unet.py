"""Attention U-Net: the battery."""

from tests.model_tester import ModelTester


class TestAttentionUNet(ModelTester):
    name = "attention_unet"
    small = {"widths": (4, 4, 8, 8, 8)}
    parameter_count = 34_877_421
