"""The paper's results, to compare with ours.

Zhou & Wang, "Associative Self-Attention Mechanism Improved UNet for Lung Nodule Image
Segmentation", Modeling and Simulation 12(6), 2023, 5522-5530, doi:10.12677/MOS.2023.126501,
CC BY 4.0: Table 1.

`TABLE_1` maps the name of a network in this package to its row: `method`, the name as printed, then
metrics under their names in summary.json, shares as fractions (the paper prints percent) and the
Hausdorff distance in mm as the paper states it. Its MAE is nearly 1 - ACC in every row, so it is
taken for that of masks, `mae_binary`. The paper gives no pixel spacing, no rule for empty masks and
no averaging rule. It defines the AUC but does not tabulate it.
"""

TEST_IMAGES = 27
_COLUMNS = ("method", "iou", "hd_mm", "dsc", "mae_binary", "acc", "spe")
_ROWS = {
    "unet": ("UNet", 0.9716, 5.62, 0.9855, 0.0061, 0.9938, 0.9971),
    "unetpp": ("UNet++", 0.9718, 5.54, 0.9856, 0.0058, 0.9941, 0.9952),
    "attention_unet": ("Attention-UNet", 0.9747, 5.37, 0.9872, 0.0054, 0.9945, 0.9972),
    "anamnet": ("AnamNet", 0.9701, 5.65, 0.9848, 0.0063, 0.9937, 0.9965),
    "awsnet": ("AwsNet", 0.9738, 5.39, 0.9867, 0.0056, 0.9944, 0.9968),
    "lightunet": ("LightUNet", 0.9747, 5.32, 0.9872, 0.0054, 0.9946, 0.9970),
    "infnet": ("Inf-Net", 0.9718, 5.43, 0.9857, 0.0060, 0.9938, 0.9965),
    "prnet": ("PR-Net", 0.9771, 5.07, 0.9884, 0.0049, 0.9951, 0.9978),
}
TABLE_1 = {network: dict(zip(_COLUMNS, row, strict=True)) for network, row in _ROWS.items()}
