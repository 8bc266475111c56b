#!/usr/bin/env python3
"""Writes model/: a tiny random checkpoint that fits tests/golden/tokenizer/small, and what it says.

The answers are greedy ones of transformers' Llama4ForCausalLM in float32. The script refuses a seed whose best and second
best logit ever come closer than 0.01, so that no answer hangs on rounding. Needs torch, transformers (5.23), tokenizers.
"""
import json
import pathlib

import torch
from tokenizers import Tokenizer
from transformers import Llama4ForCausalLM, Llama4TextConfig

HERE = pathlib.Path(__file__).resolve().parent
TOK = Tokenizer.from_file(str(HERE.parent / "golden/tokenizer/small/tokenizer.json"))
EOT = TOK.token_to_id("<|eot|>")
END = TOK.token_to_id("<|end_of_text|>")
N = 12



def make(seed):
    torch.manual_seed(seed)
    cfg = Llama4TextConfig(
        vocab_size=TOK.get_vocab_size(), hidden_size=32, intermediate_size=16, intermediate_size_mlp=32,
        num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=16, num_local_experts=4,
        max_position_embeddings=256, attention_chunk_size=16, tie_word_embeddings=True, initializer_range=0.3,
        bos_token_id=TOK.token_to_id("<|begin_of_text|>"), eos_token_id=[END, EOT], pad_token_id=None,
        attn_implementation="eager")
    model = Llama4ForCausalLM(cfg).to(torch.bfloat16)
    with torch.no_grad():  # norms away from 1, a head that does not just repeat its input
        for name, p in model.named_parameters():
            if "norm" in name:
                p.uniform_(0.5, 1.5)
    return model


def answer(model, ids, n):
    ids = list(ids)
    out = []
    margin = 1e9
    while len(out) < n:
        with torch.no_grad():
            top = model(torch.tensor([ids + out]), use_cache=False).logits[0, -1].topk(2)
        margin = min(margin, float(top.values[0] - top.values[1]))
        out.append(int(top.indices[0]))
        if out[-1] in (END, EOT):
            break
    return out, margin


def encode(text):
    return TOK.encode(text, add_special_tokens=False).ids


def turn(role, text):
    return f"<|header_start|>{role}<|header_end|>\n\n{text}<|eot|>"


def main():
    reply = "<|header_start|>assistant<|header_end|>\n\n"
    torch.set_num_threads(1)
    for seed in range(40):
        model = make(seed)
        wide = Llama4ForCausalLM(model.config).eval()
        wide.load_state_dict({k: v.float() for k, v in model.state_dict().items()})
        raw, m1 = answer(wide, encode("<|begin_of_text|>The cat and the dog"), N)
        history = encode("<|begin_of_text|>" + turn("system", "Be brief.") + turn("user", "Hello there") + reply)
        first, m2 = answer(wide, history, N)
        history += first + ([] if first[-1] == EOT else [EOT]) + encode(turn("user", "And again?") + reply)
        second, m3 = answer(wide, history, N)
        if min(m1, m2, m3) >= 0.01 and min(len(set(x)) for x in (raw, first, second)) >= 7:
            break
    out = HERE / "model"
    model.save_pretrained(out)
    defaults = {"bos_token_id": model.config.bos_token_id, "eos_token_id": [END, EOT]}
    (out / "generation_config.json").write_text(json.dumps(defaults) + "\n")
    for name, ids in (("raw", raw), ("first", first), ("second", second)):
        (out / f"{name}.ids").write_text(",".join(map(str, ids)) + "\n")
        (out / f"{name}.txt").write_text(TOK.decode(ids) + "\n")
    print("seed", seed, "least margin", min(m1, m2, m3))


main()
