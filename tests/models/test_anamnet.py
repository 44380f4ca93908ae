"""AnamNet: the battery."""

from tests.model_tester import ModelTester


class TestAnamNet(ModelTester):
    name = "anamnet"
    small = {"widths": (4, 4, 8, 8)}
    parameter_count = 4_631_425
