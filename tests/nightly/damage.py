#!/usr/bin/env python3
"""Damages a copy of a checkpoint as a faulty conversion would: damage.py FOLDER KIND. Standard library alone.

expert   the output matrix of one expert of one layer is 5 % too large
router   the router of one layer is rounded to 4 bits
swap     gate and up of the experts of one layer change places
rope     the factor of the position scaling is doubled
"""
import json
import struct
import sys

folder, kind = sys.argv[1:]
path = f"{folder}/model.safetensors"
layer = "model.layers.4.feed_forward"


def tensor(suffix):
    """Offset in the file and shape of a BF16 tensor."""
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head = json.loads(f.read(n))
    (name,) = [k for k in head if k.endswith(suffix)]
    assert head[name]["dtype"] == "BF16"
    return 8 + n + head[name]["data_offsets"][0], head[name]["shape"]


def read(at, count):
    with open(path, "rb") as f:
        f.seek(at)
        words = struct.unpack(f"<{count}H", f.read(2 * count))
    return [struct.unpack("<f", struct.pack("<I", w << 16))[0] for w in words]


def write(at, values):
    words = [(struct.unpack("<I", struct.pack("<f", v))[0] + 0x8000) >> 16 for v in values]
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(struct.pack(f"<{len(words)}H", *words))


if kind == "expert":
    at, (_, rows, columns) = tensor(f"{layer}.experts.down_proj")
    one = rows * columns
    write(at + 2 * 3 * one, [1.05 * v for v in read(at + 2 * 3 * one, one)])
elif kind == "router":
    at, (experts, width) = tensor(f"{layer}.router.weight")
    for e in range(experts):
        row = read(at + 2 * e * width, width)
        scale = max(abs(v) for v in row) / 7
        write(at + 2 * e * width, [round(v / scale) * scale for v in row])
elif kind == "swap":
    at, (experts, rows, columns) = tensor(f"{layer}.experts.gate_up_proj")
    half = columns // 2
    for r in range(experts * rows):
        row = read(at + 2 * r * columns, columns)
        write(at + 2 * r * columns, row[half:] + row[:half])
elif kind == "rope":
    with open(f"{folder}/config.json") as f:
        config = json.load(f)
    text = config.get("text_config", config)
    for key in ("rope_scaling", "rope_parameters"):
        if isinstance(text.get(key), dict):
            text[key]["factor"] *= 2
    with open(f"{folder}/config.json", "w") as f:
        json.dump(config, f)
else:
    sys.exit(f"no damage of kind {kind}")
