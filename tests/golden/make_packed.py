#!/usr/bin/env python3
"""Writes packed/tiny.crl from docs/format.md alone: a second implementation of the packed file, version 1.

The weights are the arithmetic noise of tests/unit/test_store.c, which must write the same bytes through the library.
Needs the Python module xxhash. Usage: make_packed.py [--check]
"""
import json
import os
import struct
import sys

import xxhash

F32, BF16, Q8, Q4 = 1, 2, 3, 4
MASK = (1 << 64) - 1
OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "packed", "tiny.crl")

CONFIG = {
    "n_layer": 2, "n_head": 4, "n_kv_head": 2, "d_head": 6, "d_model": 40, "d_ff": 20, "d_ff_dense": 36, "vocab": 70,
    "n_expert": 3, "n_expert_used": 2, "n_ctx": 128, "chunk": 16, "floor_scale": 4, "attn_scale": 0.1,
    "norm_eps": 1e-05, "rope_theta": 10000, "rope_type": "plain", "rope_factor": 0, "rope_low": 0, "rope_high": 0,
    "rope_old_ctx": 0, "qk_norm": False, "temperature_tuning": True, "attention_bias": True, "tied": False,
    "multimodal": False, "bos": 1, "pad": -1, "image_token": -1, "eos": [2], "uses_rope": [1, 0], "is_moe": [0, 1],
}
PROVENANCE = {"recipe": "q4",
              "overrides": ["*.layers.1.self_attn.k_proj.weight=bf16", "*shared_expert.down_proj*=q8"]}


def round_up(x, a):
    return (x + a - 1) // a * a


def xxh3(data):
    return xxhash.xxh3_64_intdigest(data)


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def bf16_bits(x):
    u = struct.unpack("<I", struct.pack("<f", x))[0]
    return (u + 0x7FFF + (u >> 16 & 1)) >> 16 & 0xFFFF


# --- the weights: what test_store.c calls code_of, scale_of and level_of ---

def noise(i):
    i = (i + 1) * 0x9E3779B97F4A7C15 & MASK
    i = (i ^ i >> 31) * 0xBF58476D1CE4E5B9 & MASK
    return i >> 32


def code(w, r, c):
    return noise((w << 40 | r << 20 | c) & MASK) % 255 - 127


def scale(w, r, b):
    bits = bf16_bits((1 + noise((w << 41 | r << 21 | b) & MASK) % 1000) / 4096.0)
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


def third(w, r, c):
    return f32(f32(code(w, r, c)) / 3.0)


# --- section 8: formats ---

def panel(fmt, w, p, n, k):
    kp = round_up(k, 32)
    nb = kp // 32
    rows = [(r, 16 * p + r) for r in range(16) if 16 * p + r < n]
    if fmt == BF16:
        out = bytearray(32 * kp)
        for r, row in rows:
            for c in range(k):
                struct.pack_into("<H", out, 64 * (c // 2) + 4 * r + 2 * (c % 2), bf16_bits(third(w, row, c)))
    elif fmt == Q8:
        s = round_up(32 * nb, 64)
        out = bytearray(s + 512 * nb)
        for r, row in rows:
            for b in range(nb):
                struct.pack_into("<H", out, 32 * b + 2 * r, bf16_bits(scale(w, row, b)))
            for c in range(k):
                struct.pack_into("<b", out, s + 64 * (c // 4) + 4 * r + c % 4, code(w, row, c))
    else:
        s = 64 + round_up(16 * nb, 64)
        out = bytearray(s + 256 * nb)
        for r, row in rows:
            struct.pack_into("<f", out, 4 * r, scale(w, row, 999))
            for b in range(nb):
                struct.pack_into("<b", out, 64 + 16 * b + r, code(w, row, 1000 + b))
            for c in range(k):
                g = c % 32 // 4
                out[s + 256 * (c // 32) + 64 * (g // 2) + 4 * r + c % 4] |= (code(w, row, c) & 15) << (g % 2 * 4)
    return bytes(out)


def matrix(fmt, w, n, k):
    if fmt == F32:
        return b"".join(struct.pack("<f", third(w, r, c)) for r in range(n) for c in range(k))
    head = struct.pack("<16b", *(i * 16 - 120 + w % 7 for i in range(16))) + bytes(48) if fmt == Q4 else b""
    return head + b"".join(panel(fmt, w, p, n, k) for p in range(round_up(n, 16) // 16))


# --- section 5: which matrices, in which extents ---

def extents():
    """[[(kind, layer, expert, n, k), ...], ...]"""
    c, none = CONFIG, 0xFFFFFFFF
    d, q, kv = c["d_model"], c["n_head"] * c["d_head"], c["n_kv_head"] * c["d_head"]
    out = [[(1, none, none, c["vocab"], d)]]
    for layer in range(c["n_layer"]):
        moe = c["is_moe"][layer]

        def m(kind, n, k, expert=none):
            return (kind, layer, expert, n, k)

        small = [m(4, 1, d), m(5, 1, d)]
        if c["attention_bias"]:
            small += [m(6, 1, q), m(7, 1, kv), m(8, 1, kv), m(9, 1, d)]
        if moe:
            small.append(m(10, c["n_expert"], d))
        out += [small, [m(11, q, d), m(12, kv, d), m(13, kv, d), m(14, d, q)]]
        if not moe:
            ff = c["d_ff_dense"]
            out.append([m(19, 2 * round_up(ff, 16), d), m(20, d, ff)])
            continue
        ff = c["d_ff"]
        out.append([m(15, 2 * round_up(ff, 16), d), m(16, d, ff)])
        for e in range(c["n_expert"]):
            out.append([m(17, 2 * round_up(ff, 16), d, e), m(18, d, ff, e)])
    out.append([(3, none, none, 1, d)])
    if not c["tied"]:
        out.append([(2, none, none, c["vocab"], d)])
    return out


def format_of(kind, layer):
    if kind in (3, 4, 5, 6, 7, 8, 9):
        return F32
    if kind == 10 or (kind == 12 and layer == 1):  # router; the first override
        return BF16
    return Q8 if kind in (1, 16) else Q4  # embedding; the second override


# --- sections 1 to 4 ---

def build():
    compact = dict(separators=(",", ":"))
    sections = {1: json.dumps(CONFIG, **compact).encode(), 2: b"tokens", 3: b"{}", 4: b"{{ x }}",
                6: json.dumps(PROVENANCE, **compact).encode()}
    ext = extents()
    n_matrix = sum(len(e) for e in ext)
    dir_size = 64 + 32 * len(sections) + 32 * len(ext) + 48 * n_matrix
    pieces, pos = [], dir_size
    section_table = extent_table = matrix_table = b""
    for kind, data in sorted(sections.items()):
        pos = round_up(pos, 64)
        section_table += struct.pack("<IIQQQ", kind, 0, pos, len(data), xxh3(data))
        pieces.append((pos, data))
        pos += len(data)
    w = 0
    for e in ext:
        body, first = b"", w
        for kind, layer, expert, n, k in e:
            fmt = format_of(kind, layer)
            body += bytes(round_up(len(body), 64) - len(body))
            data = matrix(fmt, w, n, k)
            matrix_table += struct.pack("<HBBIIIQQQQ", kind, fmt, 0, layer, expert, 0, n, k, len(body), len(data))
            body += data
            w += 1
        body += bytes(round_up(len(body), 4096) - len(body))
        pos = round_up(pos, 2097152 if len(body) >= 33554432 else 4096)
        extent_table += struct.pack("<QQQII", pos, len(body), xxh3(body), first, len(e))
        pieces.append((pos, body))
        pos += len(body)
    head = struct.pack("<8sIIQQQIII12x", b"\x89CRL\r\n\x1a\n", 1, 0, pos, dir_size, 0, len(sections), len(ext), n_matrix)
    directory = head + section_table + extent_table + matrix_table
    out = bytearray(pos)
    out[:dir_size] = directory
    struct.pack_into("<Q", out, 32, xxh3(directory))
    for at, data in pieces:
        out[at:at + len(data)] = data
    return bytes(out)


def main():
    made = build()
    if sys.argv[1:] == ["--check"]:
        with open(OUT, "rb") as f:
            same = f.read() == made
        print("packed/tiny.crl:", "the same" if same else "DIFFERENT")
        return 0 if same else 1
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    with open(OUT, "wb") as f:
        f.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
