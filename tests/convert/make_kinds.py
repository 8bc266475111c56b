#!/usr/bin/env python3
"""Writes one small checkpoint in every form that the converter reads, and beside each the same weights in plain BF16.

    make_kinds.py FOLDER [KIND...]

FOLDER/KIND holds the form, FOLDER/KIND.bf16 the reference. Codes are random, scales are powers of two, so that code times
scale is exact in BF16 and both must give the same packed bytes. Only Python's own library is used: this is a second,
independent writer of every format.
"""
import io
import json
import os
import pickle
import random
import struct
import sys
import types
import zipfile

D, HEADS, KV, HEAD, LAYERS, EXPERTS, F, FM, VOCAB = 128, 4, 2, 32, 2, 3, 176, 352, 64
SHARDS = 2
PREFIX = "language_model.model."

CONFIG = {
    "architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4",
    "text_config": {
        "model_type": "llama4_text", "hidden_size": D, "num_attention_heads": HEADS, "num_key_value_heads": KV,
        "head_dim": HEAD, "num_hidden_layers": LAYERS, "num_local_experts": EXPERTS, "num_experts_per_tok": 1,
        "intermediate_size": F, "intermediate_size_mlp": FM, "interleave_moe_layer_step": 2, "use_qk_norm": True,
        "attention_chunk_size": 8192, "attn_temperature_tuning": False, "floor_scale": 8192, "attn_scale": 0.1,
        "vocab_size": VOCAB, "rms_norm_eps": 1e-5, "max_position_embeddings": 262144, "rope_theta": 500000.0,
        "rope_scaling": None, "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": None,
        "pad_token_id": None, "no_rope_layer_interval": 4, "torch_dtype": "bfloat16"},
    "image_token_index": None, "tie_word_embeddings": False,
}
PARAMS = {
    "dim": D, "n_layers": LAYERS, "n_heads": HEADS, "n_kv_heads": KV, "head_dim": HEAD, "vocab_size": VOCAB,
    "ffn_exp": 4.0, "multiple_of": 16, "norm_eps": 1e-5, "rope_theta": 500000.0, "use_scaled_rope": False,
    "nope_layer_interval": 4, "use_qk_norm": True, "attention_chunk_size": 8192,
    "moe_args": {"num_experts": EXPERTS, "capacity_factor": 1.0, "auto_scale_F": True, "top_k": 1,
                 "interleave_moe_layer_step": 2},
}


# --- numbers ------------------------------------------------------------------------------------------------

def e4m3(code):
    sign, exp, man = -1.0 if code & 0x80 else 1.0, code >> 3 & 15, code & 7
    return sign * (man * 2.0**-9 if exp == 0 else (1 + man / 8) * 2.0**(exp - 7))


def bf16(x):
    """Exact, or an error: every reference must be."""
    bits = struct.unpack("<I", struct.pack("<f", x))[0]
    assert bits & 0xffff == 0, x
    return bits >> 16


VALUES = {"F8_E4M3": [e4m3(c) if c & 0x7f != 0x7f else 0.0 for c in range(256)],
          "I8": [float(c if c < 128 else c - 256) for c in range(256)],
          "INT4": [float(c - 8) for c in range(16)], "INT8": [float(c - 128) for c in range(256)]}


class Matrix:
    """Codes [n][k] and the exponent of the scale of every one, as a grid of blocks."""

    def __init__(self, rng, n, k, code, rows=1, inputs=None):
        self.n, self.k, self.code = n, k, code
        self.rows, self.inputs = rows or n, inputs or k
        if code == "F8_E4M3":
            choice = [c for c in range(256) if c & 0x7f != 0x7f]
        else:
            choice = range(16 if code == "INT4" else 256)
        self.codes = [bytes(rng.choices(choice, k=k)) for _ in range(n)]
        self.grid = [[rng.randint(-9, -5) for _ in range(-(-k // self.inputs))] for _ in range(-(-n // self.rows))]

    def row(self, r):
        value, scale = VALUES[self.code], self.grid[r // self.rows]
        return [value[c] * 2.0**scale[i // self.inputs] for i, c in enumerate(self.codes[r])]

    def scales(self):
        return [2.0**e for row in self.grid for e in row]


def pack(values, dtype):
    if dtype == "BF16":
        return struct.pack("<%dH" % len(values), *map(bf16, values))
    return struct.pack("<%d%s" % (len(values), {"F32": "f", "F16": "e", "I64": "q"}[dtype]), *values)


# --- the model ----------------------------------------------------------------------------------------------

def plain(rng, n):
    return [rng.randint(-64, 64) / 64 for _ in range(n)]


class Model:
    """quantised(name) says which matrices have codes; the others have small fractions, exact in every type."""

    def __init__(self, seed, code=None, rows=1, inputs=None, experts_only=False, only=None):
        rng = random.Random(seed)
        self.m, self.v = {}, {}

        def add(name, n, k, is_expert=False):
            coded = code and (is_expert or not experts_only) and (only is None or only(name))
            if coded:
                self.m[name] = Matrix(rng, n, k, code, rows, inputs)
            else:
                self.v[name] = (n, k, [plain(rng, k) for _ in range(n)])

        def norm(name):
            self.v[name] = (1, D, [[1 + rng.randint(-32, 32) / 64 for _ in range(D)]])

        self.v["embed_tokens.weight"] = (VOCAB, D, [plain(rng, D) for _ in range(VOCAB)])
        self.v["lm_head.weight"] = (VOCAB, D, [plain(rng, D) for _ in range(VOCAB)])
        norm("norm.weight")
        for layer in range(LAYERS):
            p = "layers.%d." % layer
            norm(p + "input_layernorm.weight")
            norm(p + "post_attention_layernorm.weight")
            for name, n, k in (("q", HEADS * HEAD, D), ("k", KV * HEAD, D), ("v", KV * HEAD, D), ("o", D, HEADS * HEAD)):
                add(p + "self_attn.%s_proj.weight" % name, n, k)
            if layer % 2 == 0:
                for name, n, k in (("gate", FM, D), ("up", FM, D), ("down", D, FM)):
                    add(p + "feed_forward.%s_proj.weight" % name, n, k)
                continue
            self.v[p + "feed_forward.router.weight"] = (EXPERTS, D, [plain(rng, D) for _ in range(EXPERTS)])
            for name, n, k in (("gate", F, D), ("up", F, D), ("down", D, F)):
                add(p + "feed_forward.shared_expert.%s_proj.weight" % name, n, k)
                for e in range(EXPERTS):
                    add(p + "feed_forward.experts.%d.%s_proj.weight" % (e, name), n, k, True)

    def names(self):
        return list(self.v) + list(self.m)

    def rows(self, name):
        if name in self.v:
            return self.v[name][2]
        return [self.m[name].row(r) for r in range(self.m[name].n)]

    def shape(self, name):
        if name in self.v:
            return list(self.v[name][:2])
        return [self.m[name].n, self.m[name].k]


def flat(rows):
    return [x for row in rows for x in row]


def transpose(rows):
    return [list(c) for c in zip(*rows)]


# --- safetensors --------------------------------------------------------------------------------------------

def outer(name):
    return "language_model." + name if name.startswith("lm_head") else PREFIX + name


def write_safetensors(folder, tensors, config=CONFIG):
    os.makedirs(folder)
    header, at = {}, 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder + "/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors:
            f.write(t[3])
    with open(folder + "/config.json", "w") as f:
        json.dump(config, f, indent=1)


def shape_of(model, name):
    n, k = model.shape(name)
    return [k] if "norm" in name else [n, k]


def is_expert(name):
    return ".experts." in name


def fused(model, dtype="BF16", only_plain=False):
    """The release's form: experts stacked and input-major."""
    out = []
    for name in model.names():
        if not is_expert(name):
            out.append((outer(name), dtype, shape_of(model, name), pack(flat(model.rows(name)), dtype)))
    for layer in range(1, LAYERS, 2):
        p = "layers.%d.feed_forward.experts." % layer
        gate_up, down = [], []
        for e in range(EXPERTS):
            g, u, d = (model.rows("%s%d.%s_proj.weight" % (p, e, w)) for w in ("gate", "up", "down"))
            gate_up += [a + b for a, b in zip(transpose(g), transpose(u))]
            down += transpose(d)
        out.append((outer(p + "gate_up_proj"), dtype, [EXPERTS, D, 2 * F], pack(flat(gate_up), dtype)))
        out.append((outer(p + "down_proj"), dtype, [EXPERTS, F, D], pack(flat(down), dtype)))
    return out


def packed_words(m):
    out = bytearray()
    for row in m.codes:
        if m.code == "INT4":
            row += bytes(-len(row) % 8)
            out += bytes(row[i] | row[i + 1] << 4 for i in range(0, len(row), 2))
        else:
            out += row + bytes(-len(row) % 4)
    return bytes(out)


def linears(model, scale_dtype="F32", scale_name="_scale", scale_shape=None, outer_name=outer):
    """Experts as single linears; matrices with codes have scales beside them."""
    out = []
    for name in model.names():
        if name in model.v:
            out.append((outer_name(name), "BF16", shape_of(model, name), pack(flat(model.rows(name)), "BF16")))
            continue
        m = model.m[name]
        scales = m.scales()
        shape = scale_shape(m) if scale_shape else [len(m.grid), len(m.grid[0])]
        if m.code.startswith("INT"):
            per = 8 if m.code == "INT4" else 4
            out.append((outer_name(name) + "_packed", "I32", [m.n, -(-m.k // per)], packed_words(m)))
            out.append((outer_name(name) + "_shape", "I64", [2], pack([m.n, m.k], "I64")))
        else:
            out.append((outer_name(name), m.code, [m.n, m.k], b"".join(m.codes)))
        out.append((outer_name(name) + scale_name, scale_dtype, shape, pack(scales, scale_dtype)))
    return out


def plural(name):
    parts = name.split(".")
    if ".experts." in name:
        i = parts.index("experts")
        parts[i + 1:i + 3] = [parts[i + 2] + "s", parts[i + 1]]
    return outer(".".join(parts))


def stacked_codes(model, input_major, scale):
    """Stacked experts in F8_E4M3; the other tensors are plain. scale(e, gate, up, down) -> scales of gate_up and down."""
    out = [(outer(n), "BF16", shape_of(model, n), pack(flat(model.rows(n)), "BF16")) for n in model.v]
    for layer in range(1, LAYERS, 2):
        p = "layers.%d.feed_forward.experts." % layer
        parts = {w: [model.m["%s%d.%s_proj.weight" % (p, e, w)] for e in range(EXPERTS)] for w in ("gate", "up", "down")}
        if input_major:
            data, down = bytearray(), bytearray()
            for e in range(EXPERTS):
                g, u, d = (parts[w][e].codes for w in ("gate", "up", "down"))
                for i in range(D):
                    data += bytes(r[i] for r in g) + bytes(r[i] for r in u)
                for i in range(F):
                    down += bytes(r[i] for r in d)
            out.append((outer(p + "gate_up_proj"), "F8_E4M3", [EXPERTS, D, 2 * F], bytes(data)))
            out.append((outer(p + "down_proj"), "F8_E4M3", [EXPERTS, F, D], bytes(down)))
            out += [(outer(p + n), "F32", s, pack(v, "F32")) for n, s, v in scale(parts)]
        else:
            for w, n, k in (("gate", F, D), ("up", F, D), ("down", D, F)):
                out.append((outer(p + w + "_proj.weight"), "F8_E4M3", [EXPERTS, n, k],
                            b"".join(b"".join(m.codes) for m in parts[w])))
                out.append((outer(p + w + "_proj.weight_scale"), "F32", [EXPERTS, n, 1],
                            pack([s for m in parts[w] for s in m.scales()], "F32")))
    return out


def scale_rows(parts):
    gu = [s for e in range(EXPERTS) for w in ("gate", "up") for s in parts[w][e].scales()]
    down = [s for e in range(EXPERTS) for s in parts["down"][e].scales()]
    return [("gate_up_proj_scale", [EXPERTS, 1, 2 * F], gu), ("down_proj_scale", [EXPERTS, D, 1], down)]


def scale_experts(parts):
    for e in range(EXPERTS):
        parts["up"][e].grid = parts["gate"][e].grid  # one for both halves
    return [("gate_up_proj_weight_scale", [EXPERTS], [parts["gate"][e].scales()[0] for e in range(EXPERTS)]),
            ("down_proj_weight_scale", [EXPERTS, 1, 1], [parts["down"][e].scales()[0] for e in range(EXPERTS)])]


def scale_inputs(parts):
    """One scale per input of gate and up, one per 128 inputs of down."""
    for e in range(EXPERTS):
        parts["up"][e].grid = parts["gate"][e].grid
    return [("gate_up_proj_scale", [EXPERTS, D, 1], [s for e in range(EXPERTS) for s in parts["gate"][e].scales()]),
            ("down_proj_scale", [EXPERTS, -(-F // 128), 1], [s for e in range(EXPERTS) for s in parts["down"][e].scales()])]


# --- torch's archive ----------------------------------------------------------------------------------------

def fake_torch():
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*args):
        raise NotImplementedError
    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in ("BFloat16Storage", "FloatStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    sys.modules.update({"torch": torch, "torch._utils": utils})
    return torch, utils


class Storage:
    def __init__(self, key, n, kind):
        self.key, self.n, self.kind = key, n, kind


class Tensor:
    def __init__(self, storage, shape, rebuild):
        self.storage, self.shape, self.rebuild = storage, shape, rebuild

    def __reduce__(self):
        import collections
        stride, step = [], 1
        for n in reversed(self.shape):
            stride.insert(0, step)
            step *= n
        return self.rebuild, (self.storage, 0, tuple(self.shape), tuple(stride), False, collections.OrderedDict())


def write_pth(path, tensors, extra=()):
    saved = {k: sys.modules.get(k) for k in ("torch", "torch._utils")}
    torch, utils = fake_torch()
    table, blobs = {}, []
    for i, (name, shape, values) in enumerate(tensors):
        table[name] = Tensor(Storage(str(i), len(values), torch.BFloat16Storage), shape, utils._rebuild_tensor_v2)
        blobs.append(pack(values, "BF16"))
    for name in extra:
        table[name] = io.BytesIO()
    out = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if isinstance(obj, Storage):
                return ("storage", obj.kind, obj.key, "cpu", obj.n)
            return None
    Pickler(out, protocol=2).dump(table)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        z.writestr("consolidated/data.pkl", out.getvalue())
        z.writestr("consolidated/byteorder", "little")
        for i, blob in enumerate(blobs):
            z.writestr("consolidated/data/%d" % i, blob)
        z.writestr("consolidated/version", "3\n")
    for k, v in saved.items():
        if v is None:
            del sys.modules[k]
        else:
            sys.modules[k] = v


def cut_rows(rows, shard):
    each = len(rows) // SHARDS
    return rows[shard * each:(shard + 1) * each]


def cut_inputs(rows, shard):
    each = len(rows[0]) // SHARDS
    return [r[shard * each:(shard + 1) * each] for r in rows]


def write_meta(folder, model):
    os.makedirs(folder)
    with open(folder + "/params.json", "w") as f:
        json.dump(PARAMS, f)
    for s in range(SHARDS):
        t = []

        def put(name, rows, vector=False):
            t.append((name, [len(rows[0])] if vector else [len(rows), len(rows[0])], flat(rows)))
        put("tok_embeddings.weight", cut_rows(model.rows("embed_tokens.weight"), s))
        put("output.weight", cut_rows(model.rows("lm_head.weight"), s))
        put("norm.weight", model.rows("norm.weight"), True)
        put("rope.freqs", [[0.0, 1.0]], True)
        for layer in range(LAYERS):
            p, q = "layers.%d." % layer, "layers.%d." % layer
            moe = layer % 2 == 1
            put(q + "attention.wqkv.weight", sum((cut_rows(model.rows(p + "self_attn.%s_proj.weight" % w), s)
                                                  for w in "qkv"), []))
            put(q + "attention.wqkv.layer_norm_weight", model.rows(p + "input_layernorm.weight"), True)
            put(q + "attention.wo.weight", cut_inputs(model.rows(p + "self_attn.o_proj.weight"), s))
            put(q + ("feed_forward.norm.weight" if moe else "feed_forward.mlp.layer_norm_weight"),
                model.rows(p + "post_attention_layernorm.weight"), True)
            f = p + "feed_forward."
            if not moe:
                put(q + "feed_forward.mlp.fc1_weight", cut_rows(model.rows(f + "gate_proj.weight"), s) +
                    cut_rows(model.rows(f + "up_proj.weight"), s))
                put(q + "feed_forward.mlp.fc2_weight", cut_inputs(model.rows(f + "down_proj.weight"), s))
                continue
            put(q + "feed_forward.router_DE", transpose(model.rows(f + "router.weight")))
            for name, w in (("moe_w_in_eD_F", "gate"), ("moe_w_swiglu_eD_F", "up"), ("moe_w_out_eF_D", "down")):
                rows = []
                for e in range(EXPERTS):
                    r = model.rows("%sexperts.%d.%s_proj.weight" % (f, e, w))
                    rows += transpose(cut_inputs(r, s) if w == "down" else cut_rows(r, s))
                put(q + "feed_forward.experts." + name, rows)
            put(q + "feed_forward.w_in_shared_FD.weight", cut_rows(model.rows(f + "shared_expert.gate_proj.weight"), s))
            put(q + "feed_forward.w_swiglu_FD.weight", cut_rows(model.rows(f + "shared_expert.up_proj.weight"), s))
            put(q + "feed_forward.w_out_shared_DF.weight",
                cut_inputs(model.rows(f + "shared_expert.down_proj.weight"), s))
        write_pth("%s/consolidated.%02d.pth" % (folder, s), t, ["layers.0.attention.wo._extra_state"])


# --- the kinds ----------------------------------------------------------------------------------------------

def linear_kind(write, **model):
    def make(folder, seed):
        m = Model(seed, **model)
        write_safetensors(folder, write(m))
        return m
    return make


def make_meta(folder, seed):
    m = Model(seed)
    write_meta(folder, m)
    return m


def make_fused_input(folder, seed):
    m = Model(seed, code="F8_E4M3", rows=None, inputs=1, experts_only=True)
    rng = random.Random(seed)
    for name in m.m:
        if "down" in name:
            m.m[name] = Matrix(rng, D, F, "F8_E4M3", None, 128)
    write_safetensors(folder, stacked_codes(m, True, scale_inputs))
    return m


F8 = {"code": "F8_E4M3"}
EXP = {"code": "F8_E4M3", "experts_only": True}
KINDS = {
    "f16": linear_kind(lambda m: fused(m, "F16")),
    "f32": linear_kind(lambda m: fused(m, "F32")),
    "linear": linear_kind(linears),
    "f8-row": linear_kind(linears, **EXP),
    "f8-row-bf16": linear_kind(lambda m: linears(m, "BF16", scale_shape=lambda x: [x.n]), **F8),
    "f8-tensor": linear_kind(lambda m: linears(m, scale_shape=lambda x: []), rows=None, **F8),
    "f8-block": linear_kind(lambda m: linears(m, scale_name="_scale_inv"), rows=128, inputs=128, **F8),
    "f8-group": linear_kind(linears, inputs=32, **F8),
    "f8-plural": linear_kind(lambda m: linears(m, outer_name=plural), **EXP),
    "f8-mixed": linear_kind(linears, only=lambda n: hash_of(n) % 2, **F8),
    "f8-fused-row": linear_kind(lambda m: stacked_codes(m, True, scale_rows), **EXP),
    "f8-fused-expert": linear_kind(lambda m: stacked_codes(m, True, scale_experts), rows=None, **EXP),
    "f8-fused-input": make_fused_input,
    "f8-stacked": linear_kind(lambda m: stacked_codes(m, False, None), **EXP),
    "i8-row": linear_kind(linears, code="I8"),
    "int4-group": linear_kind(lambda m: linears(m, "BF16"), code="INT4", inputs=32),
    "int4-128": linear_kind(lambda m: linears(m, "F16"), code="INT4", inputs=128),
    "int4-row": linear_kind(linears, code="INT4"),
    "int8-packed": linear_kind(linears, code="INT8"),
    "meta": make_meta,
}


def hash_of(name):
    return sum(name.encode())


def main():
    folder = sys.argv[1]
    for i, name in enumerate(sys.argv[2:] or KINDS):
        model = KINDS[name]("%s/%s" % (folder, name), 100 + i)
        write_safetensors("%s/%s.bf16" % (folder, name), fused(model))


if __name__ == "__main__":
    main()
