"""The tables at the end of a run and of an evaluation, as text."""

import pathlib

from prnet_jax.paper import TABLE_1
from prnet_jax.report import evaluated, table


def statistics(mean, sd, n, low=None, high=None):
    found = {"mean": mean, "sd": sd, "median": mean, "n": n}
    return found | {"ci95_low": low, "ci95_high": high}


SUMMARY = {
    "metrics": {
        "iou": statistics(0.98012, 0.0061, 27, 0.9775, 0.98256),
        "dsc": statistics(0.98996, 0.0031, 27, 0.9887, 0.9912),
        "acc": statistics(0.99557, 0.0012, 28),
        "spe": statistics(0.99774, None, 28),
        "auc": statistics(0.99991, 0.00004, 27),
        "mae": statistics(0.004512, 0.00121, 28, 0.0041, 0.00499),
        "hd_px": statistics(3.456, 1.2, 27, 2.999, 3.95),
        "hd_mm": statistics(None, None, 0),
        "hd95_mm": statistics(None, None, 0),
    },
    "pooled": {"iou": 0.98234, "dsc": 0.99109, "mae": 0.00449, "auc": None},
    "counts": {"n_images": 28, "both_empty": 1, "missed": 2, "false_alarm": 3},
    "empty_policy": "penalise",
    "empty_rule": "both empty: not scored",
}


def test_table_beside_the_paper():
    assert table(SUMMARY, TABLE_1["prnet"]) == (
        """\
| metric | per image, mean ± sd |    95 % interval | images | pooled |    paper: PR-Net |
| ------ | -------------------: | ---------------: | -----: | -----: | ---------------: |
| IoU %  |         98.01 ± 0.61 |   97.75 to 98.26 |     27 |  98.23 |            97.71 |
| HD px  |          3.46 ± 1.20 |     3.00 to 3.95 |     27 |      - |                - |
| HD mm  |                    - |                - |      0 |      - | 5.07 (as stated) |
| DSC %  |         99.00 ± 0.31 |   98.87 to 99.12 |     27 |  99.11 |            98.84 |
| MAE    |      0.0045 ± 0.0012 | 0.0041 to 0.0050 |     28 | 0.0045 |           0.0049 |
| ACC %  |         99.56 ± 0.12 |                - |     28 |      - |            99.51 |
| SPE %  |                99.77 |                - |     28 |      - |            99.78 |
| AUC %  |         99.99 ± 0.00 |                - |     27 |      - |                - |

28 images: 2 missed (mask, but nothing predicted), 3 false alarms (no mask, but something \
predicted), 1 both empty.
Empty masks, policy 'penalise': both empty: not scored."""
    )


def test_phantom_is_not_compared():
    header = table(SUMMARY, TABLE_1["unet"], comparable=False).splitlines()[0]
    assert header.endswith("| paper: UNet, not comparable |")


def test_without_the_paper():
    lines = table(SUMMARY).splitlines()
    assert lines[0].replace("  ", "").startswith("| metric | per image, mean ± sd |")
    assert lines[0].endswith("| images | pooled |")
    assert "paper" not in "\n".join(lines)
    assert not any(line.startswith("| HD mm") for line in lines)  # nothing known: no line


def test_an_evaluation_says_how_it_was_made():
    how = {
        **{"network": "unet", "dataset": "lidc_nodules", "mask": "mask", "split": "test"},
        **{"image_size": 64, "checkpoint_epoch": 7, "threshold": 0.43, "tta": "flips"},
        "threshold_from": "validation",
        "readers": {
            "network_with_readers": {"dice_both_marked": 0.7, "dice_any_marked": 0.5},
            "readers_with_each_other": {"dice_both_marked": 0.78125, "dice_any_marked": None},
        },
    }
    text = evaluated(SUMMARY | how, pathlib.Path("runs/a/test"))
    assert (
        "Test split of lidc_nodules (mask 'mask') at 64x64, unet of epoch 7 (best validation DSC), "
        "threshold 0.43 (the best on validation), test-time augmentation by flips:"
    ) in text
    assert "| paper: UNet, not comparable |" in text
    assert "| network with readers    |              70.00 |                     50.00 |" in text
    assert "| readers with each other |              78.12 |                         - |" in text


# As printed: method, IoU %, HD mm, DSC %, MAE, ACC %, SPE %.
PRINTED = """
UNet           | 97.16 | 5.62 | 98.55 | 0.0061 | 99.38 | 99.71
UNet++         | 97.18 | 5.54 | 98.56 | 0.0058 | 99.41 | 99.52
Attention-UNet | 97.47 | 5.37 | 98.72 | 0.0054 | 99.45 | 99.72
AnamNet        | 97.01 | 5.65 | 98.48 | 0.0063 | 99.37 | 99.65
AwsNet         | 97.38 | 5.39 | 98.67 | 0.0056 | 99.44 | 99.68
LightUNet      | 97.47 | 5.32 | 98.72 | 0.0054 | 99.46 | 99.70
Inf-Net        | 97.18 | 5.43 | 98.57 | 0.0060 | 99.38 | 99.65
PR-Net         | 97.71 | 5.07 | 98.84 | 0.0049 | 99.51 | 99.78
"""


def test_paper_rows_are_those_printed():
    rows = [
        f"{r['method']:<14} | {100 * r['iou']:.2f} | {r['hd_mm']:.2f} | {100 * r['dsc']:.2f} | "
        f"{r['mae']:.4f} | {100 * r['acc']:.2f} | {100 * r['spe']:.2f}"
        for r in TABLE_1.values()
    ]
    assert rows == PRINTED.strip().split("\n")
    assert list(TABLE_1) == [
        *("unet", "unetpp", "attention_unet", "anamnet", "awsnet", "lightunet", "infnet", "prnet")
    ]
