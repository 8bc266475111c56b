#!/usr/bin/env python3
"""Writes model/text.jsonl and model/text.nll: texts, and how likely the model in model/ finds them.

A line of text.nll is the negative log likelihood of a document in nats and the number of its tokens, each predicted from
the begin-of-text token and all tokens before it, by transformers' Llama4ForCausalLM in float32. Needs torch,
transformers (5.23), tokenizers.
"""
import json
import pathlib

import torch
from tokenizers import Tokenizer
from transformers import Llama4ForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
TOK = Tokenizer.from_file(str(HERE.parent / "golden/tokenizer/small/tokenizer.json"))
# without the control tokens, whose names in a text would be taken for them
PLAIN = Tokenizer.from_str(json.dumps({**json.loads(TOK.to_str()), "added_tokens": []}))
TEXTS = [
    "The cat and the dog",
    "a",
    "One line.\nAnother line, and 12345 numbers.\n\n",
    "Größe, naïve, 中文, ελληνικά: bytes that are no ASCII.",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.",
    "<|eot|> in a text is plain text",
    "    indented\n\tand tabbed",
]

torch.set_num_threads(1)
model = Llama4ForCausalLM.from_pretrained(HERE / "model", dtype=torch.float32, attn_implementation="eager").eval()
lines, sums = [], []
for text in TEXTS:
    ids = PLAIN.encode(text, add_special_tokens=False).ids
    ids = [model.config.bos_token_id] + ids
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0].double()
    log_p = torch.log_softmax(logits, -1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
    lines.append(json.dumps({"text": text}, ensure_ascii=False))
    sums.append(f"{-log_p.sum().item():.6f}\t{len(ids) - 1}")
(HERE / "model/text.jsonl").write_text("\n".join(lines) + "\n")
(HERE / "model/text.nll").write_text("\n".join(sums) + "\n")
