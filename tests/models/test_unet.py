"""U-Net: the battery, an odd size, and the bilinear form against PyTorch."""

from tests.model_tester import GoldenTester, ModelTester


class TestUNet(ModelTester):
    name = "unet"
    small = {"widths": (4, 4, 8, 8, 8)}
    parameter_count = 31_036_481
    min_side = 16


class TestUNetOdd(GoldenTester):
    name = "unet"
    golden = "unet_odd"
