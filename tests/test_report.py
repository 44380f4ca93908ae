from prnet_jax.paper import TABLE_1
from prnet_jax.report import table


def statistics(mean, sd, n):
    return {"mean": mean, "sd": sd, "median": mean, "n": n}


SUMMARY = {
    "metrics": {
        "iou": statistics(0.98012, 0.0061, 27),
        "dsc": statistics(0.98996, 0.0031, 27),
        "acc": statistics(0.99557, 0.0012, 28),
        "spe": statistics(0.99774, None, 28),
        "auc": statistics(0.99991, 0.00004, 27),
        "mae": statistics(0.004512, 0.00121, 28),
        "ppv": statistics(0.5, 0.5, 27),
        "hd_px": statistics(3.456, 1.2, 27),
        "hd_mm": statistics(None, None, 0),
        "hd95_mm": statistics(None, None, 0),
    },
    "pooled": {"iou": 0.98234, "dsc": 0.99109, "mae": 0.00449, "auc": None},
    "counts": {"n_images": 28, "both_empty": 1, "missed": 2, "false_alarm": 3},
    "empty_rule": "both empty: not scored",
}


def test_table_beside_the_paper():
    assert table(SUMMARY, TABLE_1["prnet"], note="Resized to 128x128.") == (
        """\
| metric | per image, mean ± sd | images | pooled |    paper: PR-Net |
| ------ | -------------------: | -----: | -----: | ---------------: |
| IoU %  |         98.01 ± 0.61 |     27 |  98.23 |            97.71 |
| HD px  |          3.46 ± 1.20 |     27 |      - |                - |
| HD mm  |                    - |      0 |      - | 5.07 (as stated) |
| DSC %  |         99.00 ± 0.31 |     27 |  99.11 |            98.84 |
| MAE    |      0.0045 ± 0.0012 |     28 | 0.0045 |           0.0049 |
| ACC %  |         99.56 ± 0.12 |     28 |      - |            99.51 |
| SPE %  |                99.77 |     28 |      - |            99.78 |
| AUC %  |         99.99 ± 0.00 |     27 |      - |                - |

28 images: 2 missed (mask, but nothing predicted), 3 false alarms (no mask, but something \
predicted), 1 both empty.
Rule: both empty: not scored.
Resized to 128x128."""
    )


def test_phantom_is_not_compared():
    header = table(SUMMARY, TABLE_1["unet"], comparable=False).splitlines()[0]
    assert header.endswith("| paper: UNet, not comparable |")


def test_without_the_paper():
    lines = table(SUMMARY).splitlines()
    assert lines[0] == "| metric | per image, mean ± sd | images | pooled |"
    assert "paper" not in "\n".join(lines)
    assert not any(line.startswith("| HD mm") for line in lines)  # nothing known: no line


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
