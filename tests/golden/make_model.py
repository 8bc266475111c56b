#!/usr/bin/env python3
"""make_model.py - writes tests/golden/model: tiny random checkpoints and what transformers computes from
them.

    make_model.py [--output DIR] [--only ID ...]      write the checkpoints and golden files, verifying them
    make_model.py --check [--output DIR]              recompute everything and compare with the committed files

Needs torch, transformers (5.23 was used), numpy. Weights are drawn by numpy from a seed per checkpoint,
so the files do not depend on the versions of the others. README.md describes the files and the cases.
"""
import argparse
import json
import os
import shutil
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ref                                                          # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
IMAGE, BOS, EOS = 1, 2, [3, 4]          # ids that the random prompts avoid


# --- configurations ----------------------------------------------------------------------------------------

LLAMA3 = dict(rope_type="llama3", factor=16.0, low_freq_factor=1.0, high_freq_factor=1.0,
              original_max_position_embeddings=32)

SCOUT = dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=16, num_hidden_layers=5,
             num_local_experts=4, num_experts_per_tok=1, intermediate_size=48, intermediate_size_mlp=80,
             interleave_moe_layer_step=1, use_qk_norm=True, theta=10000.0, scaling=LLAMA3,
             attention_chunk_size=8, attn_temperature_tuning=True, floor_scale=4, attn_scale=0.1,
             vocab_size=128, rms_norm_eps=1e-5, max_position_embeddings=4096)

SMALL = dict(SCOUT, hidden_size=32, head_dim=8, num_local_experts=3, intermediate_size=24,
             intermediate_size_mlp=40, vocab_size=80)

OLD_ROPE = dict(LLAMA3, factor=8.0, high_freq_factor=4.0, original_max_position_embeddings=64)

# id: fields, how it is written (see write_config, write_weights), the folder whose weights it uses, prompts.
# A prompt is (suffix, length, greedy steps after it).
CASES = {
    "A": dict(fields=SCOUT, naming="multi", vision=True, rope="v4", prompts=[("", 37, 20)], inside=True),
    "B": dict(fields=dict(SCOUT, scaling=OLD_ROPE), naming="multi", vision=True, rope="v4", weights="A",
              prompts=[("", 40, 0)]),
    "C": dict(fields=dict(SCOUT, num_hidden_layers=8, interleave_moe_layer_step=2, num_local_experts=8,
                          intermediate_size=24, use_qk_norm=False, scaling=None),
              naming="multi", rope="v5", saved=True, prompts=[("", 33, 12)], inside=True),
    "D": dict(fields=dict(SMALL, moe_layers=[0, 3], no_rope_layers=[1, 0, 0, 1, 1], interleave_moe_layer_step=2),
              naming="multi", rope="v4", prompts=[("", 29, 0)]),
    "E1": dict(fields=dict(SCOUT, no_rope_layers=[]), naming="multi", vision=True, rope="v4", weights="A",
               prompts=[("", 20, 0)]),
    "E2": dict(fields=dict(SMALL, moe_layers=[], no_rope_layers=[]), naming="multi", rope="v4",
               prompts=[("", 20, 0)]),
    "F": dict(fields=dict(SCOUT, attention_chunk_size=None, attn_temperature_tuning=False), naming="multi",
              vision=True, rope="v4", weights="A", prompts=[("", 40, 0)]),
    "G": dict(fields=SCOUT, naming="multi", vision=True, rope="v4", weights="A",
              prompts=[(f"-{n}", n, 0) for n in (7, 8, 9, 16, 17)]),
    "H": dict(fields=dict(SCOUT, num_experts_per_tok=2), naming="multi", vision=True, rope="v4", weights="A",
              prompts=[("", 40, 0)]),
    "I": dict(fields=dict(SMALL, tie_word_embeddings=True), naming="multi", rope="v5", prompts=[("", 24, 0)]),
    "J": dict(fields=dict(SMALL, hidden_size=48, head_dim=16), naming="multi", rope="v4", prompts=[("", 24, 0)]),
    "K1": dict(fields=dict(SMALL, num_key_value_heads=4, null_kv=True, null_head_dim=True), naming="multi",
               rope="v4", prompts=[("", 24, 0)]),
    "K2": dict(fields=dict(SMALL, num_key_value_heads=1), naming="multi", rope="v4", prompts=[("", 24, 0)]),
    "L1": dict(fields=SMALL, naming="text", rope="v5", prompts=[("", 24, 0)]),
    "L2": dict(fields=SMALL, naming="text", rope="v4", weights="L1", prompts=[("", 24, 0)]),
    "L3": dict(fields=SMALL, naming="text", rope="old", weights="L1", prompts=[("", 24, 0)]),
    "M": dict(fields=SMALL, naming="multi", rope="v4", layout="sharded", prompts=[("", 24, 0)]),
    "N": dict(fields=dict(SMALL, num_hidden_layers=4), naming="multi", rope="v4", layout="fp8",
              prompts=[("", 24, 0)]),
    "O": dict(fields=dict(SMALL, attention_bias=True), naming="multi", rope="v4", prompts=[("", 24, 0)]),
    "P": dict(fields=dict(SCOUT, tuning_spelled=4), naming="multi", vision=True, rope="v4", weights="A",
              prompts=[("", 24, 0)]),
    "Q": dict(fields=dict(SMALL, num_hidden_layers=4), naming="text", rope="v4", layout="dtypes",
              prompts=[("", 24, 0)]),
    "R": dict(fields=dict(SMALL, hidden_size=50, head_dim=10, num_attention_heads=6, intermediate_size=37,
                          intermediate_size_mlp=61, vocab_size=67, num_local_experts=5, attention_chunk_size=7,
                          floor_scale=3, attn_scale=1.0, rms_norm_eps=1e-3, no_rope_layer_interval=3,
                          interleave_moe_layer_step=2, theta=500.0, scaling=None),
              naming="text", rope="v4", prompts=[("", 31, 0)]),
    "S": dict(fields=dict(SMALL, num_hidden_layers=4, moe_layers=[], attention_chunk_size=600, floor_scale=100),
              naming="text", rope="v4", prompts=[("", 1100, 0)]),
    "U1": dict(fields=dict(SMALL, num_hidden_layers=4), naming="multi", rope="v4", layout="unfused",
               prompts=[("", 24, 0)]),
    "U2": dict(fields=dict(SMALL, num_hidden_layers=4), naming="multi", rope="v4", layout="plural",
               prompts=[("", 24, 0)]),
    "U3": dict(fields=dict(SMALL, num_hidden_layers=4), naming="multi", rope="v4", layout="stacked",
               prompts=[("", 24, 0)]),
    "U4": dict(fields=dict(SMALL, num_hidden_layers=4), naming="model.language_model", rope="v4",
               prompts=[("", 24, 0)]),
}

VISION = dict(model_type="llama4_vision_model", hidden_size=16, hidden_act="gelu", num_hidden_layers=1,
              num_attention_heads=1, num_channels=3, intermediate_size=64, vision_output_dim=24, image_size=8,
              patch_size=2, norm_eps=1e-5, rope_theta=10000, pixel_shuffle_ratio=0.5, projector_input_dim=24,
              projector_output_dim=24, projector_dropout=0.0, attention_dropout=0.0,
              multi_modal_projector_bias=False, vision_feature_layer=-1,
              vision_feature_select_strategy="default")

# The mutations that a case must catch; verified when the data is made, listed again in README.md.
MUST_CATCH = {
    "A": ["swap_gate_up", "scale_output", "rotate_half", "sliding_window", "no_chunks", "qk_norm_on_nope",
          "no_qk_norm", "floor_p", "no_temperature", "softmax_router", "no_rope_scaling", "kv_head_modulo",
          "nope_flag_inverted"],
    "B": ["no_rope_scaling"],
    "C": ["swap_gate_up", "scale_output", "rotate_half", "sliding_window", "floor_p", "kv_head_modulo"],
    "D": ["nope_flag_inverted"],
    "G": ["sliding_window", "rotate_half", "no_chunks"],
    "H": ["top1_only", "scale_output", "softmax_router"],
    "O": ["ignore_bias"],
    "R": ["swap_gate_up", "scale_output", "rotate_half", "sliding_window", "floor_p", "kv_head_modulo"],
    "S": ["sliding_window", "no_chunks"],
    "U1": ["swap_gate_up"], "U2": ["swap_gate_up"], "U3": ["swap_gate_up"], "N": ["swap_gate_up"],
}
# Prompts of G that cannot show a mistake about chunks: they end inside the first chunk or at its edge.
BLIND = {("G", "-7", "sliding_window"), ("G", "-8", "sliding_window"), ("G", "-7", "no_chunks"),
         ("G", "-8", "no_chunks")}
# With attn_scale 0.1 a query is scaled by 7 % at most where floor(p/fs) is wrong: the logits move little, but still
# by at least ten times the tolerance of the tests (1e-4). R has attn_scale 1 to show it plainly.
WEAK = {("A", "floor_p"): 2e-3, ("C", "floor_p"): 2e-3}


def derived(fields):
    """The fields with every list written out, as the reference wants them."""
    f = dict(fields)
    f.pop("null_kv", None), f.pop("null_head_dim", None), f.pop("tuning_spelled", None)
    n = f["num_hidden_layers"]
    f.setdefault("no_rope_layer_interval", 4)
    f.setdefault("tie_word_embeddings", False)
    f.setdefault("attention_bias", False)
    if not f.get("no_rope_layers"):
        f["no_rope_layers"] = [int((i + 1) % f["no_rope_layer_interval"] != 0) for i in range(n)]
    if f.get("moe_layers") is None:
        step = f["interleave_moe_layer_step"]
        f["moe_layers"] = [i for i in range(n) if i % step == step - 1]
    return f


# --- weights -----------------------------------------------------------------------------------------------

def bf16_bits(a):
    """Round to nearest even; the values drawn here are finite."""
    u = np.ascontiguousarray(a, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_round(a):
    return (bf16_bits(a).astype(np.uint32) << 16).view(np.float32).reshape(np.shape(a))


def draw(fields, seed):
    """Canonical weights (text-only names, fused experts) as float32 values that BF16 holds exactly."""
    f = derived(fields)
    d_model, heads, kv, d = (f[k] for k in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"))
    f_exp, f_mlp, n_exp, vocab = (f[k] for k in ("intermediate_size", "intermediate_size_mlp", "num_local_experts",
                                                 "vocab_size"))
    rng = np.random.Generator(np.random.PCG64(seed))
    w = {}

    def add(name, shape, std, mean=0.0):
        w[name] = bf16_round((rng.standard_normal(shape) * std + mean).astype(np.float32))

    unit = 8 / np.sqrt(d_model)          # keeps activations alike for every width
    add("model.embed_tokens.weight", (vocab, d_model), 0.5)
    for i in range(f["num_hidden_layers"]):
        pre = f"model.layers.{i}."
        add(pre + "input_layernorm.weight", (d_model,), 0.2, 1.0)
        add(pre + "post_attention_layernorm.weight", (d_model,), 0.2, 1.0)
        for name, rows, cols in (("q", heads * d, d_model), ("k", kv * d, d_model), ("v", kv * d, d_model),
                                 ("o", d_model, heads * d)):
            add(pre + f"self_attn.{name}_proj.weight", (rows, cols), (0.2 if name in "qk" else 0.45) * unit)
            if f["attention_bias"]:
                add(pre + f"self_attn.{name}_proj.bias", (rows,), 0.4)
        pre += "feed_forward."
        if i in f["moe_layers"]:
            add(pre + "router.weight", (n_exp, d_model), 0.35 * unit)
            add(pre + "experts.gate_up_proj", (n_exp, d_model, 2 * f_exp), 0.25 * unit)
            add(pre + "experts.down_proj", (n_exp, f_exp, d_model), 0.25 * unit)
            pre += "shared_expert."
            width = f_exp
        else:
            width = f_mlp
        add(pre + "gate_proj.weight", (width, d_model), 0.2 * unit)
        add(pre + "up_proj.weight", (width, d_model), 0.2 * unit)
        add(pre + "down_proj.weight", (d_model, width), 0.2 * unit)
    add("model.norm.weight", (d_model,), 0.2, 1.0)
    if not f["tie_word_embeddings"]:
        add("lm_head.weight", (vocab, d_model), 0.3 * unit)
    return w


def draw_vision(d_model, seed):
    v, rng, w = VISION, np.random.Generator(np.random.PCG64(seed)), {}
    h, inner, p = v["hidden_size"], v["intermediate_size"], v["patch_size"]
    n_patch = (v["image_size"] // p) ** 2

    def add(name, shape, std=0.25, mean=0.0):
        w[name] = bf16_round((rng.standard_normal(shape) * std + mean).astype(np.float32))

    def norm(name):
        add(name + ".weight", (h,), 0.2, 1.0)
        add(name + ".bias", (h,), 0.2)

    add("vision_model.class_embedding", (h,))
    add("vision_model.positional_embedding_vlm", (n_patch + 1, h))
    add("vision_model.patch_embedding.linear.weight", (h, 3 * p * p))
    norm("vision_model.layernorm_pre")
    norm("vision_model.layernorm_post")
    for i in range(v["num_hidden_layers"]):
        pre = f"vision_model.model.layers.{i}."
        norm(pre + "input_layernorm")
        norm(pre + "post_attention_layernorm")
        for name in "qkvo":
            add(pre + f"self_attn.{name}_proj.weight", (h, h))
            add(pre + f"self_attn.{name}_proj.bias", (h,))
        add(pre + "mlp.fc1.weight", (inner, h))
        add(pre + "mlp.fc1.bias", (inner,))
        add(pre + "mlp.fc2.weight", (h, inner))
        add(pre + "mlp.fc2.bias", (h,))
    add("vision_model.vision_adapter.mlp.fc1.weight", (v["projector_input_dim"], inner))
    add("vision_model.vision_adapter.mlp.fc2.weight", (v["projector_output_dim"], v["projector_output_dim"]))
    add("multi_modal_projector.linear_1.weight", (d_model, v["vision_output_dim"]))
    return w


# FP8: codes are drawn, and scales have four significant bits, so code x scale has at most eight and BF16 holds it
# exactly: dequantising to float32 and rounding to BF16 changes nothing.

def fp8_quantise(a, rng):
    """[out, in] -> codes, scales [out, 1], dequantised values."""
    scale = (rng.integers(8, 16, (a.shape[0], 1)) / 8 * 2.0 ** rng.integers(-8, -5, (a.shape[0], 1)))
    scale = scale.astype(np.float32)
    table = ref.e4m3_table()
    codes = np.array([c for c in range(256) if c & 0x7F != 0x7F], np.uint8)
    values = table[codes]
    order = np.argsort(values, kind="stable")
    codes, values = codes[order], values[order]
    at = np.clip(np.searchsorted(values, a / scale), 1, len(values) - 1)
    at = at - (np.abs(values[at - 1] - a / scale) <= np.abs(values[at] - a / scale))
    back = values[at] * scale
    assert np.array_equal(bf16_round(back), back)
    return codes[at], scale, back


def split_experts(w, form):
    """Fused experts replaced by output-major linears named in the given form."""
    out = {}
    for name, a in w.items():
        if name.endswith("experts.gate_up_proj"):
            gate, up = np.split(a.transpose(0, 2, 1), 2, axis=1)
            parts = {"gate": gate, "up": up}
        elif name.endswith("experts.down_proj"):
            parts = {"down": a.transpose(0, 2, 1)}
        else:
            out[name] = a
            continue
        pre = name.rsplit(".", 1)[0]
        for kind, stack in parts.items():
            if form == "stacked":
                out[f"{pre}.{kind}_proj.weight"] = stack.copy()
                continue
            for e in range(len(stack)):
                one = f"{pre}.{e}.{kind}_proj" if form == "unfused" else f"{pre}.{kind}_projs.{e}"
                out[one + ".weight"] = stack[e].copy()
    return out


def fuse_experts(w):
    return ref.canonical({n: a.copy() for n, a in w.items()})


def encode(a, dtype):
    a = np.ascontiguousarray(a)
    if dtype == "BF16":
        assert np.array_equal(bf16_round(a), a)
        return bf16_bits(a).astype("<u2").tobytes()
    if dtype == "F8_E4M3":
        return a.astype(np.uint8).tobytes()
    form = {"F16": "<f2", "F32": "<f4"}[dtype]
    assert np.array_equal(a.astype(form).astype(np.float32), a)
    return a.astype(form).tobytes()


def stored_tensors(case, w, rng):
    """(list of (name, dtype, array) to store, canonical weights that the stored ones mean)."""
    layout = case.get("layout", "fused")
    if layout in ("unfused", "plural", "stacked"):
        return [(n, "BF16", a) for n, a in split_experts(w, layout).items()], w
    if layout == "fp8":
        # Layers 0 and 2: BF16 scales; 1: F32 scales; 3 stays BF16, per expert all the same.
        out, meant = [], {}
        for n, a in split_experts(w, "unfused").items():
            layer = int(n.split(".")[2]) if n.startswith("model.layers.") else -1
            if ".experts." in n and layer in (0, 1, 2):
                codes, scale, meant[n] = fp8_quantise(a, rng)
                out += [(n, "F8_E4M3", codes), (n + "_scale", "F32" if layer == 1 else "BF16", scale)]
            else:
                meant[n] = a
                out.append((n, "BF16", a))
        return out, fuse_experts(meant)
    if layout == "dtypes":
        # Layer 0 BF16, 1 F16, 2 F32, 3 F8_E4M3 with scales for every linear but the router; the head in F16.
        out, meant = [], {}
        for n, a in split_experts(w, "unfused").items():
            layer = int(n.split(".")[2]) if n.startswith("model.layers.") else -1
            dtype = {1: "F16", 2: "F32"}.get(layer, "F16" if n.startswith("lm_head") else "BF16")
            if layer == 3 and n.endswith("_proj.weight"):
                codes, scale, meant[n] = fp8_quantise(a, rng)
                out += [(n, "F8_E4M3", codes), (n + "_scale", "BF16", scale)]
                continue
            if dtype == "F16":                       # BF16 values below F16's normal range lose bits: drop them
                a = np.where(np.abs(a) < 2.0 ** -14, 0, a).astype(np.float32)
            meant[n] = a
            out.append((n, dtype, a))
        return out, fuse_experts(meant)
    return [(n, "BF16", a) for n, a in w.items()], w


def outer_name(naming, name):
    if naming == "text" or name.startswith(("vision_model.", "multi_modal_projector.")):
        return name
    if naming == "model.language_model":
        return "model.language_model." + name[len("model."):] if name.startswith("model.") else name
    return "language_model." + name


def write_safetensors(path, tensors, rng, pad, extra=0):
    """Data in shuffled order, header keys in another shuffled order. pad: the header ends at a multiple of 8, as
    usual. extra: number of blanks to append to the header, to put the data at an odd place."""
    data_order = list(rng.permutation(len(tensors)))
    head_order = list(rng.permutation(len(tensors)))
    where, at, blobs = {}, 0, []
    for i in data_order:
        name, dtype, a = tensors[i]
        blob = encode(a, dtype)
        where[name] = dict(dtype=dtype, shape=list(a.shape), data_offsets=[at, at + len(blob)])
        at += len(blob)
        blobs.append(blob)
    header = {"__metadata__": {"format": "pt"}}
    for i in head_order:
        header[tensors[i][0]] = where[tensors[i][0]]
    text = json.dumps(header, separators=(",", ":")).encode()
    if pad:
        text += b" " * (-len(text) % 8)
    text += b" " * extra
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(blobs))
    return 8 + len(text)


def write_weights(folder, case, w, seed):
    """Returns the canonical weights that the files mean."""
    rng = np.random.Generator(np.random.PCG64(seed + 1))
    tensors, meant = stored_tensors(case, w, rng)
    if case.get("vision"):
        tensors += [(n, "BF16", a) for n, a in draw_vision(case["fields"]["hidden_size"], seed + 2).items()]
    tensors = [(outer_name(case["naming"], n), dtype, a) for n, dtype, a in tensors]
    if case.get("layout") != "sharded":
        write_safetensors(os.path.join(folder, "model.safetensors"), tensors, rng, pad=True)
        return meant
    n_shard, where, starts = 4, {}, []
    shuffled = [tensors[i] for i in rng.permutation(len(tensors))]
    for s in range(n_shard):
        part = shuffled[s::n_shard]
        name = f"model-{s + 1:05d}-of-{n_shard:05d}.safetensors"
        path = os.path.join(folder, name)
        starts.append(write_safetensors(path, part, rng, pad=s in (0, 3), extra=0))
        if s in (1, 2):          # unpadded: one with the data at an odd offset, one at an even one
            if starts[-1] % 2 != (s == 2):
                starts[-1] = write_safetensors(path, part, rng, pad=False, extra=1)
            assert starts[-1] % 2 == (s == 2)
        where.update({t[0]: name for t in part})
    total = sum(len(encode(a, dtype)) for _, dtype, a in tensors)
    keys = [list(where)[i] for i in rng.permutation(len(where))]
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": total}, "weight_map": {k: where[k] for k in keys}}, f, indent=1)
        f.write("\n")
    return meant


# --- config.json -------------------------------------------------------------------------------------------

def text_fields(case):
    f = dict(case["fields"])
    theta, scaling = f.pop("theta"), f.pop("scaling")
    if f.pop("null_kv", False):
        f["num_key_value_heads"] = None
    if f.pop("null_head_dim", False):
        f["head_dim"] = None
    if "tuning_spelled" in f:
        f["attn_temperature_tuning"] = f.pop("tuning_spelled")
    if case["rope"] == "v5":
        f["rope_parameters"] = dict(scaling or {"rope_type": "default"}, rope_theta=theta)
        f["dtype"] = "bfloat16"
    else:
        f["rope_theta"] = theta
        s = dict(scaling) if scaling else None
        if s and case["rope"] == "old":
            s["type"] = s.pop("rope_type")
        f["rope_scaling"] = s
        f["torch_dtype"] = "bfloat16"
    if case.get("saved"):                # as transformers 5 writes them: every list spelled out
        full = derived(case["fields"])
        f["moe_layers"], f["no_rope_layers"] = full["moe_layers"], full["no_rope_layers"]
        f["layer_types"] = ["chunked_attention" if r else "full_attention" for r in full["no_rope_layers"]]
        f["layer_types"] = list(f["layer_types"])
    f.update(model_type="llama4_text", hidden_act="silu", bos_token_id=BOS, eos_token_id=EOS, pad_token_id=None,
             attention_dropout=0.0, initializer_range=0.02, use_cache=True, output_router_logits=False,
             router_aux_loss_coef=0.001, router_jitter_noise=0.0)
    return f


FP8_NOTE = dict(quant_method="compressed-tensors", format="float-quantized", config_groups=dict(group_0=dict(
    targets=["Linear"],
    weights=dict(num_bits=8, type="float", strategy="channel", symmetric=True, dynamic=False),
    input_activations=dict(num_bits=8, type="float", strategy="token", symmetric=True, dynamic=True))),
    ignore=["re:.*self_attn.*", "re:.*router", "re:.*shared_expert.*", "re:.*lm_head", "re:vision_model.*",
            "re:multi_modal_projector.*"], kv_cache_scheme=None, quantization_status="compressed")


def write_config(folder, case):
    f = text_fields(case)
    if case["naming"] == "text":
        raw = dict(architectures=["Llama4ForCausalLM"], **f)
    else:
        tied = f.pop("tie_word_embeddings", False)
        raw = dict(architectures=["Llama4ForConditionalGeneration"], model_type="llama4", boi_token_index=IMAGE,
                   eoi_token_index=IMAGE, image_token_index=IMAGE, tie_word_embeddings=tied, text_config=f)
        if case.get("vision"):
            raw["vision_config"] = VISION
    if case.get("layout") in ("fp8", "dtypes"):
        raw["quantization_config"] = FP8_NOTE
    with open(os.path.join(folder, "config.json"), "w") as out:
        json.dump(raw, out, indent=1)
        out.write("\n")


# --- the reference -----------------------------------------------------------------------------------------

def reference_model(fields, w):
    """transformers' Llama4ForCausalLM in float32, eager attention, holding the canonical weights w."""
    import torch
    from transformers import Llama4ForCausalLM, Llama4TextConfig
    torch.set_grad_enabled(False)
    f = derived(fields)
    theta, scaling = f.pop("theta"), f.pop("scaling")
    f["rope_parameters"] = dict(scaling or {"rope_type": "default"}, rope_theta=theta)
    if f["attention_chunk_size"] is None:           # transformers raises for null; one huge chunk is the same
        f["attention_chunk_size"] = 1 << 20
    config = Llama4TextConfig(**f, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=None, hidden_act="silu",
                              attn_implementation="eager")
    model = Llama4ForCausalLM(config).to(torch.float32).eval()
    state = {n: torch.from_numpy(a.copy()) for n, a in w.items()}
    if f["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    return model


def reference_run(model, ids):
    """logits, hidden [n_layer+1], router logits {layer: [n_tok][n_expert]}"""
    import torch
    hidden, routers, hooks = [], {}, []
    body = model.model
    hooks.append(body.embed_tokens.register_forward_hook(lambda m, i, o: hidden.append(o[0].numpy().copy())))
    for n, layer in enumerate(body.layers):
        take = lambda m, i, o: hidden.append((o[0] if o.dim() == 3 else o).numpy().copy())
        hooks.append(layer.register_forward_hook(take))
        if layer.is_moe_layer:
            keep = lambda m, i, o, n=n: routers.__setitem__(n, o[1].numpy().copy())
            hooks.append(layer.feed_forward.router.register_forward_hook(keep))
    logits = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    for h in hooks:
        h.remove()
    return logits, np.stack(hidden), routers


def reference_pieces(model, ids, sizes):
    """Logits of the prompt fed with a cache in pieces; the last size repeats."""
    import torch
    cache, out, at, n = None, [], 0, 0
    while at < len(ids):
        size = sizes[min(n, len(sizes) - 1)]
        r = model(torch.tensor([ids[at:at + size]]), past_key_values=cache, use_cache=True)
        cache = r.past_key_values
        out.append(r.logits[0].numpy())
        at, n = at + size, n + 1
    return np.concatenate(out)


def prompt_ids(rng, length, vocab):
    banned = {IMAGE, *EOS}
    free = [i for i in range(vocab) if i not in banned]
    return [int(i) for i in rng.choice(free, length)]


def choices(router_logits, k):
    order = np.argsort(-router_logits, axis=1, kind="stable")
    ranked = np.take_along_axis(router_logits, order, 1)
    margin = ranked[:, k - 1] - ranked[:, k] if k < order.shape[1] else np.full(len(order), np.inf)
    return order[:, :k], margin


# --- making one case ---------------------------------------------------------------------------------------

LEAST_MARGIN = 2e-3          # between the last chosen expert and the next, everywhere: no luck in the comparison


def run_prompt(fields, model, prompt, rng):
    """ids after greedy decoding, logits, hidden, routes, margins"""
    import torch
    suffix, length, steps = prompt
    ids = prompt_ids(rng, length, fields["vocab_size"])
    for _ in range(steps):
        ids.append(int(torch.argmax(model(torch.tensor([ids]), use_cache=False).logits[0, -1])))
    logits, hidden, routers = reference_run(model, ids)
    routes, margins = {}, {}
    for layer, r in routers.items():
        routes[layer], margins[layer] = choices(r, fields["num_experts_per_tok"])
    return ids, logits, hidden, routes, margins


def least_margin(margins):
    return min([float(m.min()) for m in margins.values()], default=np.inf)


def write_prompt(folder, suffix, ids, logits):
    with open(os.path.join(folder, f"ids{suffix}.txt"), "w") as f:
        f.write(" ".join(map(str, ids)) + "\n")
    logits.astype("<f4").tofile(os.path.join(folder, f"logits{suffix}.f32"))


def write_inside(folder, hidden, routes, margins):
    hidden.astype("<f4").tofile(os.path.join(folder, "hidden.f32"))
    with open(os.path.join(folder, "routes.txt"), "w") as r, open(os.path.join(folder, "margins.txt"), "w") as m:
        for layer in sorted(routes):
            for t, chosen in enumerate(routes[layer]):
                r.write(f"{layer} {t} {' '.join(str(int(e)) for e in chosen)}\n")
                m.write(f"{layer} {t} {margins[layer][t]:.6g}\n")


def verify(name, case, folder, runs, model, note):
    """The golden values against ref.py reading the files, caches, and the mutations."""
    c, w = ref.load(folder)
    worst = worst_hidden = worst_cache = 0.0
    for (suffix, length, steps), (ids, logits, hidden, routes, margins) in runs:
        mine, my_hidden, my_routes, _ = ref.forward(c, w, ids)
        worst = max(worst, ref.relative(mine, logits))
        worst_hidden = max(worst_hidden, max(ref.relative(a, b) for a, b in zip(my_hidden, hidden)))
        assert all(np.array_equal(my_routes[l], routes[l]) for l in routes), f"{name}: routes differ"
        for sizes in ((length, 1), (1,), (3,), (8,)):
            worst_cache = max(worst_cache, ref.relative(reference_pieces(model, ids, sizes), logits))
    assert worst < 1e-5 and worst_hidden < 1e-5, f"{name}: transformers and ref.py differ by {worst:g}, {worst_hidden:g}"
    assert worst_cache < 1e-5, f"{name}: cached and whole runs differ by {worst_cache:g}"
    least = min(least_margin(r[4]) for _, r in runs)
    note.append(f"{name:3s} ref.py {worst:.1e}  hidden {worst_hidden:.1e}  cached {worst_cache:.1e}  "
                f"least router margin {least:.3g}")
    weak = []
    for mut in MUST_CATCH.get(name, []):
        for (suffix, _, _), (ids, logits, *_rest) in runs:
            if (name, suffix, mut) in BLIND:
                continue
            wrong = ref.forward(c, w, ids, mut)[0]
            change = ref.relative(wrong, logits)
            at = max(ref.relative(a, b) for a, b in zip(wrong, logits))
            note.append(f"{name:3s} {mut}{suffix}: whole {change:.3g}, worst position {at:.3g}")
            least = WEAK.get((name, mut), 1e-2)
            if not (change > least / 2 and at > least):
                weak.append(f"{name}{suffix}: {mut} changes the logits by {change:g}, {at:g} only")
    if weak:
        raise SystemExit("\n".join(weak))


def verify_files(name, case, folder, runs, note):
    """The same values from transformers reading the files itself, where it can read them."""
    import torch
    import transformers
    fused = case.get("layout") is None and "weights" not in case and case["rope"] != "old"
    if not fused or not (case["naming"] == "text" or case.get("vision")):
        return
    kind = "Llama4ForCausalLM" if case["naming"] == "text" else "Llama4ForConditionalGeneration"
    model = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    for (suffix, _, _), (ids, logits, *_rest) in runs:
        theirs = model.eval()(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy()
        worst = ref.relative(theirs, logits)
        note.append(f"{name:3s} {kind}.from_pretrained: {worst:.1e}")
        assert worst < 1e-5, f"{name}: {kind}.from_pretrained differs by {worst:g}"


def seed_of(name, attempt, seed):
    return sum(ord(ch) * 257 ** i for i, ch in enumerate(name)) + 1000003 * attempt + 7919 * seed


def build_case(folder, name, case, made, seed=0):
    """Writes the checkpoint and the golden files; returns runs [(prompt, (ids, logits, ...))] and the model.
    made: canonical weights of the cases so far, by name. seed 0 gives the committed files."""
    fields = case["fields"]
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    write_config(folder, case)
    for attempt in range(200):            # until no router decision is close
        s = seed_of(name, attempt, seed)
        if "weights" in case:
            w = made[case["weights"]]
        else:
            w = write_weights(folder, case, draw(fields, s), s)
        model = reference_model(fields, w)
        rng = np.random.Generator(np.random.PCG64(s + 3))
        runs = [(p, run_prompt(fields, model, p, rng)) for p in case["prompts"]]
        if min(least_margin(r[4]) for _, r in runs) >= LEAST_MARGIN and not any(IMAGE in r[0] for _, r in runs):
            break
    else:
        raise SystemExit(f"{name}: no seed keeps the router margins above {LEAST_MARGIN}")
    made[name] = w
    if "weights" in case:
        with open(os.path.join(folder, "weights"), "w") as f:
            f.write(case["weights"] + "\n")
    for (suffix, _, _), (ids, logits, *_rest) in runs:
        write_prompt(folder, suffix, ids, logits)
    if case.get("inside"):
        write_inside(folder, *runs[0][1][2:])
    return runs, model


def make_case(out, name, case, made, note):
    folder = os.path.join(out, name)
    runs, model = build_case(folder, name, case, made)
    verify(name, case, folder, runs, model, note)
    verify_files(name, case, folder, runs, note)
    return runs


def check_committed(out, fresh):
    """Files made now against the committed ones: ids and configs equal, numbers close."""
    bad = []
    for root, _, files in os.walk(fresh):
        for file in files:
            a, b = os.path.join(root, file), os.path.join(out, os.path.relpath(os.path.join(root, file), fresh))
            if not os.path.exists(b):
                bad.append(b + ": missing")
            elif file.endswith(".f32"):
                x, y = np.fromfile(a, "<f4"), np.fromfile(b, "<f4")
                if x.shape != y.shape or ref.relative(x, y) > 1e-5:
                    bad.append(b + ": differs")
            elif file not in ("margins.txt", "verified.txt") and open(a, "rb").read() != open(b, "rb").read():
                bad.append(b + ": differs")
    return bad


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--output", default=os.path.join(HERE, "model"))
    ap.add_argument("--only", nargs="*")
    ap.add_argument("--check", action="store_true")
    args = ap.parse_args()
    import tempfile
    import torch
    import transformers
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    out = tempfile.mkdtemp() if args.check else args.output
    os.makedirs(out, exist_ok=True)
    made, lines = {}, []
    note = [f"transformers {transformers.__version__}, torch {torch.__version__}, numpy {np.__version__}"]
    for name, case in CASES.items():
        if args.only and name not in args.only and name not in {CASES[n].get("weights") for n in args.only}:
            continue
        runs = make_case(out, name, case, made, note)
        f = case["fields"]
        for (suffix, length, steps), (ids, *_rest) in runs:
            lines.append(f"{name} {case.get('weights', name)} {suffix or '-'} {len(ids)} {length} "
                         f"{f['vocab_size']} {f['num_hidden_layers']} {f['hidden_size']}")
        print(name, "done", flush=True)
    if not args.only:
        with open(os.path.join(out, "CASES"), "w") as f:
            f.write("# case weights suffix n_tok n_prompt vocab n_layer d_model\n" + "\n".join(lines) + "\n")
        with open(os.path.join(out, "verified.txt"), "w") as f:
            f.write("\n".join(note) + "\n")
    if args.check:
        bad = check_committed(args.output, out)
        shutil.rmtree(out)
        print("\n".join(bad) if bad else "committed files agree")
        return 3 if bad else 0
    print("\n".join(note))
    return 0


if __name__ == "__main__":
    sys.exit(main())
