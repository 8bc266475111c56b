#!/usr/bin/env python3
"""Writes a checkpoint with the shapes of Scout's layers, for measurements: 4.4 GB of BF16 per layer.

    make_large.py FOLDER LAYERS [EXPERTS]

Weights repeat one block of 64 MiB of random values of ordinary size. Only Python's own library is used.
"""
import json
import os
import random
import struct
import sys

D, F, VOCAB = 5120, 8192, 4096


def block(size):
    rng = random.Random(5)
    data = bytearray(rng.randbytes(size))
    # uniform bits with exponents that fall off as those of normal numbers do, roughly
    high = bytes((b & 0x80) | (0x3c if b & 3 else 0x3b) for b in range(256))
    data[1::2] = data[1::2].translate(high)
    return bytes(data)


def main():
    folder, layers = sys.argv[1], int(sys.argv[2])
    experts = int(sys.argv[3]) if len(sys.argv) > 3 else 16
    os.makedirs(folder)
    shards = [{"model.embed_tokens.weight": [VOCAB, D], "lm_head.weight": [VOCAB, D], "model.norm.weight": [D]}]
    for i in range(layers):
        p = "model.layers.%d." % i
        shards.append({p + "input_layernorm.weight": [D], p + "post_attention_layernorm.weight": [D],
                       p + "self_attn.q_proj.weight": [D, D], p + "self_attn.k_proj.weight": [1024, D],
                       p + "self_attn.v_proj.weight": [1024, D], p + "self_attn.o_proj.weight": [D, D],
                       p + "feed_forward.router.weight": [experts, D],
                       p + "feed_forward.experts.gate_up_proj": [experts, D, 2 * F],
                       p + "feed_forward.experts.down_proj": [experts, F, D],
                       p + "feed_forward.shared_expert.gate_proj.weight": [F, D],
                       p + "feed_forward.shared_expert.up_proj.weight": [F, D],
                       p + "feed_forward.shared_expert.down_proj.weight": [D, F]})
    data = block(64 << 20)
    where = {}
    for n, shapes in enumerate(shards):
        name = "model-%05d-of-%05d.safetensors" % (n + 1, len(shards))
        header, at = {}, 0
        for key, shape in shapes.items():
            size = 2
            for s in shape:
                size *= s
            header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
            where[key] = name
            at += size
        text = json.dumps(header).encode()
        with open("%s/%s" % (folder, name), "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            while at:
                f.write(data[:at] if at < len(data) else data)
                at -= min(at, len(data))
    with open(folder + "/model.safetensors.index.json", "w") as f:
        json.dump({"metadata": {}, "weight_map": where}, f)
    with open(folder + "/config.json", "w") as f:
        json.dump({"architectures": ["Llama4ForCausalLM"], "model_type": "llama4_text", "hidden_size": D,
                   "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "num_hidden_layers": layers,
                   "num_local_experts": experts, "intermediate_size": F, "intermediate_size_mlp": 2 * F,
                   "interleave_moe_layer_step": 1, "vocab_size": VOCAB, "attention_chunk_size": 8192,
                   "bos_token_id": 1, "eos_token_id": 2}, f)


if __name__ == "__main__":
    main()
