#!/usr/bin/env python3
"""Compares the exported demo with the transformers library: logits, tokenizer, rendered chats.

check.py [FOLDER]        needs torch, transformers, tokenizers, safetensors
"""

import json
import os
import sys

import torch
from transformers import AutoTokenizer, Llama4ForCausalLM

import train
import vocab

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}
PRE = (
    'Given the following functions, please respond with a JSON for a function call with its proper arguments that best answers the '
    'given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    'Do not use variables.\n\n'
)
SYS = (
    'You have access to the following functions. To call a function, please respond with JSON for a function call.Respond in the '
    'format {"name": function name, "parameters": dictionary of argument name and its value}.Do not use variables.\n\n'
)


def turn(role, text):
    return f"<|header_start|>{role}<|header_end|>\n\n{text}<|eot|>"


def calls(*pairs):
    return [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in pairs]


def chats():
    """[(messages, options, expected rendering after the begin token)]"""
    tool = json.dumps(TOOL, indent=4) + "\n\n"
    user = {"role": "user", "content": "W?"}
    return [
        (
            [{"role": "user", "content": " Hi "}],
            {"add_generation_prompt": True},
            turn("user", " Hi ") + "<|header_start|>assistant<|header_end|>\n\n",
        ),
        (
            [
                {"role": "system", "content": " S "},
                {"role": "user", "content": "U"},
                {"role": "assistant", "content": "A "},
            ],
            {},
            turn("system", "S") + turn("user", "U") + turn("assistant", "A "),
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image"},
                        {"type": "text", "text": "and"},
                        {"type": "image"},
                        {"type": "text", "text": "compare"},
                    ],
                }
            ],
            {},
            turn("user", "<|image|>and<|image|>compare"),
        ),
        (
            [
                user,
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": calls(("get_weather", {"city": "Zürich"}), ("f2", {})),
                },
                {"role": "tool", "content": 'sunny "x"'},
            ],
            {},
            turn("user", "W?")
            + turn(
                "assistant",
                '<|python_start|><|python_end|>{"name": "get_weather", "parameters": {"city": "Zürich"}}'
                '{"name": "f2", "parameters": {}}',
            )
            + turn("ipython", '"sunny \\"x\\""'),
        ),
        (
            [user, {"role": "ipython", "content": {"a": 1, "b": [1, 2]}}],
            {},
            turn("user", "W?") + turn("ipython", '{"a": 1, "b": [1, 2]}'),
        ),
        (
            [{"role": "system", "content": "S"}, {"role": "user", "content": " W? "}],
            {"tools": [TOOL]},
            turn("system", "Environment: ipython\nS") + turn("user", PRE + tool + "W?"),
        ),
        (
            [{"role": "system", "content": "S"}, user],
            {"tools": [TOOL], "tools_in_user_message": False},
            turn("system", "Environment: ipython\n" + SYS + tool + "S") + turn("user", "W?"),
        ),
        ([user], {"tools": [TOOL]}, turn("user", PRE + tool + "W?")),
        (
            [
                {"role": "system", "content": [{"type": "text", "text": " S\n"}]},
                user,
                {"role": "system", "content": " T "},
            ],
            {},
            turn("system", "S") + turn("user", "W?") + turn("system", " T "),
        ),
        ([{"role": "system", "content": ""}, user], {}, turn("system", "") + turn("user", "W?")),
    ]


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(train.HERE, "model")
    torch.set_num_threads(1)
    net, tok = train.load_export(folder)
    hf_tok = AutoTokenizer.from_pretrained(folder)
    bad = 0
    for i, (messages, options, want) in enumerate(chats()):
        got = hf_tok.apply_chat_template(messages, tokenize=False, **options)
        if got != "<|begin_of_text|>" + want:
            bad += 1
            print(f"chat {i}\n  want {want!r}\n  got  {got!r}")
    for text in ("Hello, World! It's 12345 o'clock\n\n  done ", "naïve Ωmega 東京 \U0001f600\r\n\tx", ""):
        a, b = hf_tok(text)["input_ids"], tok.encode(text).ids
        if a != b or a[0] != tok.token_to_id("<|begin_of_text|>") or hf_tok.decode(a[1:]) != text:
            bad += 1
            print("tokenizer differs on", repr(text), a, b)
    model = Llama4ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    lines = [
        json.loads(s)["text"]
        for s in open(os.path.join(os.path.dirname(folder.rstrip("/")), "heldout", "text.jsonl"))
    ]
    ids = vocab.Coder(tok).texts([" ".join(lines[:4])])[0][0][:700]
    with torch.no_grad():
        want = model(torch.tensor([ids])).logits[0]
    ((_, got),) = train.run_rows(net, [ids])
    err = ((got - want).norm() / want.norm()).item()
    same = (got.argmax(-1) == want.argmax(-1)).float().mean().item()
    print(f"{len(ids)} tokens: relative error {err:.2e}, same first choice {same:.4f}")
    bad += not err < 1e-5
    print("failures:", bad)
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
