"""ref.py - the Llama 4 text model in plain numpy, and a reader for its checkpoints.

Written from the equations of docs/model.md alone and sharing nothing with transformers, so that
make_model.py can compare two implementations before it writes a golden value. It also plays the
mutations: each is one well known mistake, and the golden data is only good if the mistake changes the
logits (README.md, table of mutations).

Reads every naming variant that the golden checkpoints use. Slow, small, for tests only.
"""
import json
import math
import os

import numpy as np

MUTATIONS = ("swap_gate_up", "scale_output", "rotate_half", "sliding_window", "qk_norm_on_nope", "floor_p",
             "no_qk_norm", "no_temperature", "no_chunks", "softmax_router", "ignore_bias",
             "nope_flag_inverted", "top1_only", "no_rope_scaling", "kv_head_modulo", "expert_transposed",
             "qk_norm_first_eps")


# --- checkpoint -> canonical float32 weights ---------------------------------------------------------------

def e4m3_table():
    """Value of each of the 256 E4M3 ("fn") codes; the two NaN codes are NaN."""
    out = np.empty(256, np.float32)
    for code in range(256):
        sign = -1.0 if code & 0x80 else 1.0
        exp, man = (code >> 3) & 15, code & 7
        if exp == 15 and man == 7:
            out[code] = np.nan
        elif exp == 0:
            out[code] = sign * man * 2.0 ** -9
        else:
            out[code] = sign * (1 + man / 8) * 2.0 ** (exp - 7)
    return out


def to_float(raw, dtype, shape):
    if dtype == "BF16":
        a = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif dtype == "F16":
        a = np.frombuffer(raw, "<f2").astype(np.float32)
    elif dtype == "F32":
        a = np.frombuffer(raw, "<f4").copy()
    elif dtype == "F8_E4M3":
        a = e4m3_table()[np.frombuffer(raw, np.uint8)]
    else:
        raise ValueError("dtype " + dtype)
    return a.reshape(shape)


def read_safetensors(path):
    out = {}
    with open(path, "rb") as f:
        data = f.read()
    n = int.from_bytes(data[:8], "little")
    for name, t in json.loads(data[8:8 + n]).items():
        if name != "__metadata__":
            b, e = t["data_offsets"]
            out[name] = to_float(data[8 + n + b:8 + n + e], t["dtype"], t["shape"])
    return out


def read_tensors(folder):
    index = os.path.join(folder, "model.safetensors.index.json")
    if not os.path.exists(index):
        return read_safetensors(os.path.join(folder, "model.safetensors"))
    with open(index) as f:
        where = json.load(f)["weight_map"]
    files = {name: read_safetensors(os.path.join(folder, name)) for name in sorted(set(where.values()))}
    return {name: files[file][name] for name, file in where.items()}


def canonical(tensors):
    """Text-only names, fused input-major experts, scales applied, vision dropped."""
    t = {}
    for name, a in tensors.items():
        for prefix in ("model.language_model.", "language_model.model."):
            if name.startswith(prefix):
                name = "model." + name[len(prefix):]
        if name.startswith("language_model.lm_head"):
            name = name[len("language_model."):]
        t[name] = a
    for name in [n for n in t if n.endswith(".weight_scale")]:
        t[name[:-len("_scale")]] = t[name[:-len("_scale")]] * t.pop(name)
    for name in [n for n in t if n.startswith(("vision_model.", "multi_modal_projector."))]:
        del t[name]

    layers = {n.split(".feed_forward.")[0] for n in t if ".feed_forward.experts." in n}
    for layer in sorted(layers):
        pre = layer + ".feed_forward.experts."
        if pre + "gate_up_proj" in t:
            continue
        parts = {}
        for kind in ("gate", "up", "down"):
            if pre + kind + "_proj.weight" in t:                       # stacked [E, out, in]
                parts[kind] = t.pop(pre + kind + "_proj.weight")
                continue
            one = [n for n in t if n.startswith(pre) and (n.endswith("." + kind + "_proj.weight")
                                                         or n.startswith(pre + kind + "_projs."))]
            number = lambda n: int(next(p for p in n[len(pre):].split(".") if p.isdigit()))
            one.sort(key=number)
            parts[kind] = np.stack([t.pop(n) for n in one])
        t[pre + "gate_up_proj"] = np.concatenate([parts["gate"], parts["up"]], 1).transpose(0, 2, 1).copy()
        t[pre + "down_proj"] = parts["down"].transpose(0, 2, 1).copy()
    return t


DEFAULTS = dict(vocab_size=202048, hidden_size=5120, intermediate_size=8192, intermediate_size_mlp=16384,
                num_hidden_layers=48, num_attention_heads=40, num_key_value_heads=8, head_dim=128,
                rms_norm_eps=1e-5, tie_word_embeddings=False, num_experts_per_tok=1, num_local_experts=16,
                interleave_moe_layer_step=1, moe_layers=None, use_qk_norm=True, no_rope_layers=None,
                no_rope_layer_interval=4, attention_chunk_size=8192, attn_temperature_tuning=True,
                floor_scale=8192, attn_scale=0.1, attention_bias=False)


def normal_config(raw):
    """Fields with defaults filled in, lists derived, and rope = dict(theta, scaling or None)."""
    text = dict(raw.get("text_config", raw))
    if raw.get("tie_word_embeddings"):
        text["tie_word_embeddings"] = True
    c = {k: text.get(k, v) for k, v in DEFAULTS.items()}
    if c["num_key_value_heads"] is None:
        c["num_key_value_heads"] = c["num_attention_heads"]
    if c["head_dim"] is None:
        c["head_dim"] = c["hidden_size"] // c["num_attention_heads"]
    n = c["num_hidden_layers"]
    if not c["no_rope_layers"]:
        c["no_rope_layers"] = [int((i + 1) % c["no_rope_layer_interval"] != 0) for i in range(n)]
    if c["moe_layers"] is None:
        step = c["interleave_moe_layer_step"]
        c["moe_layers"] = list(range(step - 1, n, step))
    scaling = text.get("rope_parameters") or text.get("rope_scaling") or {}
    c["theta"] = scaling.get("rope_theta", text.get("rope_theta", 500000.0))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    c["scaling"] = scaling if kind == "llama3" else None
    return c


def load(folder):
    with open(os.path.join(folder, "config.json")) as f:
        raw = json.load(f)
    pointer = os.path.join(folder, "weights")
    where = folder
    if os.path.exists(pointer):
        where = os.path.join(os.path.dirname(os.path.abspath(folder)), open(pointer).read().strip())
    return normal_config(raw), canonical(read_tensors(where))


# --- the model ---------------------------------------------------------------------------------------------

def rms(x, eps):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def inverse_frequencies(c, mut):
    d = c["head_dim"]
    exponent = (np.arange(0, d, 2, dtype=np.float32) / np.float32(d)).astype(np.float32)
    freq = (np.float32(1) / np.power(np.float32(c["theta"]), exponent)).astype(np.float32)
    s = c["scaling"]
    if s is None or mut == "no_rope_scaling":
        return freq
    factor, low, high, old = (float(s[k]) for k in ("factor", "low_freq_factor", "high_freq_factor",
                                                    "original_max_position_embeddings"))
    out = freq.copy()
    for j, f in enumerate(freq):
        wave = 2 * math.pi / float(f)
        if wave < old / high:
            continue
        if wave > old / low:
            out[j] = f / np.float32(factor)
        else:
            m = (old / wave - low) / (high - low)
            out[j] = (1 - m) * f / factor + m * f
    return out


def rotate(x, freq, pos, mut):
    """x [n_tok][heads][d_head]; pairs are adjacent elements."""
    angle = (pos.astype(np.float32)[:, None] * freq[None, :]).astype(np.float32)
    cos, sin = np.cos(angle.astype(np.float64)), np.sin(angle.astype(np.float64))
    cos, sin = cos.astype(x.dtype)[:, None, :], sin.astype(x.dtype)[:, None, :]
    out = np.empty_like(x)
    if mut == "rotate_half":
        h = x.shape[-1] // 2
        a, b = x[..., :h], x[..., h:]
        out[..., :h], out[..., h:] = a * cos - b * sin, a * sin + b * cos
    else:
        a, b = x[..., 0::2], x[..., 1::2]
        out[..., 0::2], out[..., 1::2] = a * cos - b * sin, a * sin + b * cos
    return out


def attention(c, w, pre, layer, x, mut):
    n_tok = x.shape[0]
    heads, kv, d = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    pos = np.arange(n_tok)
    use_rope = bool(c["no_rope_layers"][layer]) != (mut == "nope_flag_inverted")

    def linear(name, v):
        y = v @ w[pre + name + ".weight"].T
        if c["attention_bias"] and mut != "ignore_bias":
            y = y + w[pre + name + ".bias"]
        return y

    q = linear("q_proj", x).reshape(n_tok, heads, d)
    k = linear("k_proj", x).reshape(n_tok, kv, d)
    v = linear("v_proj", x).reshape(n_tok, kv, d)
    if use_rope:
        freq = inverse_frequencies(c, mut)
        q, k = rotate(q, freq, pos, mut), rotate(k, freq, pos, mut)
    if c["use_qk_norm"] and mut != "no_qk_norm" and (use_rope or mut == "qk_norm_on_nope"):
        eps = 1e-6 if mut == "qk_norm_first_eps" else c["rms_norm_eps"]
        q, k = rms(q, eps), rms(k, eps)
    if c["attn_temperature_tuning"] and not use_rope and mut != "no_temperature":
        p = pos if mut == "floor_p" else pos + 1
        scale = np.log1p(np.floor(p / c["floor_scale"])) * c["attn_scale"] + 1
        q = q * scale.astype(x.dtype)[:, None, None]

    t, p = pos[None, :], pos[:, None]
    seen = t <= p
    chunk = c["attention_chunk_size"]
    if use_rope and chunk and mut != "no_chunks":
        seen = seen & ((p - t < chunk) if mut == "sliding_window" else (p // chunk == t // chunk))

    out = np.empty((n_tok, heads, d), x.dtype)
    for h in range(heads):
        g = h % kv if mut == "kv_head_modulo" else h // (heads // kv)
        s = (q[:, h] @ k[:, g].T) * x.dtype.type(d ** -0.5)
        s = np.where(seen, s, -np.inf)
        s = np.exp(s - s.max(-1, keepdims=True))
        out[:, h] = (s / s.sum(-1, keepdims=True)) @ v[:, g]
    return linear("o_proj", out.reshape(n_tok, heads * d))


def mlp(w, pre, x):
    gate, up = x @ w[pre + "gate_proj.weight"].T, x @ w[pre + "up_proj.weight"].T
    return (silu(gate) * up) @ w[pre + "down_proj.weight"].T


def experts(c, w, pre, x, mut):
    """Returns output, chosen experts [n_tok][k] by falling logit, margin of the last chosen to the next."""
    k = 1 if mut == "top1_only" else c["num_experts_per_tok"]
    n_expert = c["num_local_experts"]
    gate_up, down = w[pre + "experts.gate_up_proj"], w[pre + "experts.down_proj"]
    if mut == "expert_transposed":
        e, i, o = gate_up.shape
        gate_up = gate_up.reshape(e, o, i).transpose(0, 2, 1)
    f = gate_up.shape[2] // 2
    logits = x @ w[pre + "router.weight"].T
    order = np.argsort(-logits, axis=1, kind="stable")
    chosen = order[:, :k]
    ranked = np.take_along_axis(logits, order, 1)
    margin = ranked[:, k - 1] - ranked[:, k] if k < n_expert else np.full(len(x), np.inf)
    out = mlp(w, pre + "shared_expert.", x)
    if mut == "softmax_router":
        weight = np.exp(logits - logits.max(1, keepdims=True))
        weight = weight / weight.sum(1, keepdims=True)
    else:
        weight = sigmoid(logits)
    for t in range(len(x)):
        for e in chosen[t]:
            u = x[t] if mut == "scale_output" else x[t] * weight[t, e]
            gu = u @ gate_up[e]
            gate, up = gu[:f], gu[f:]
            if mut == "swap_gate_up":
                gate, up = up, gate
            y = (up * silu(gate)) @ down[e]
            out[t] += y * weight[t, e] if mut == "scale_output" else y
    return out, chosen, margin


def forward(c, weights, ids, mut=None, dtype=np.float32):
    """logits [n_tok][vocab], hidden [n_layer+1][n_tok][d_model] (embedding, then after each layer, before the
    final norm), routes {layer: [n_tok][k]}, margins {layer: [n_tok]}."""
    assert mut is None or mut in MUTATIONS
    w = {n: a.astype(dtype) for n, a in weights.items()}
    eps = c["rms_norm_eps"]
    h = w["model.embed_tokens.weight"][np.asarray(ids)]
    hidden, routes, margins = [h], {}, {}
    for layer in range(c["num_hidden_layers"]):
        pre = f"model.layers.{layer}."
        x = rms(h, eps) * w[pre + "input_layernorm.weight"]
        h = h + attention(c, w, pre + "self_attn.", layer, x, mut)
        x = rms(h, eps) * w[pre + "post_attention_layernorm.weight"]
        if layer in c["moe_layers"]:
            y, routes[layer], margins[layer] = experts(c, w, pre + "feed_forward.", x, mut)
        else:
            y = mlp(w, pre + "feed_forward.", x)
        h = h + y
        hidden.append(h)
    x = rms(h, eps) * w["model.norm.weight"]
    head = w["model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"]
    return x @ head.T, np.stack(hidden), routes, margins


def relative(a, b):
    """Norm of the difference over the norm of b."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))
