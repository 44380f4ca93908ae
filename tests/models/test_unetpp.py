"""UNet++: the battery, with and without deep supervision."""

from tests.model_tester import ModelTester


class TestUNetPlusPlus(ModelTester):
    name = "unetpp"
    small = {"widths": (4, 4, 8, 8, 8)}
    parameter_count = 9_162_753


class TestDeepSupervision(TestUNetPlusPlus):
    golden = "unetpp_ds"
    fields = {"deep_supervision": True}
    parameter_count = 9_162_852
