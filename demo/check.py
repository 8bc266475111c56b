#!/usr/bin/env python3
"""Compares the exported demo with the transformers library: logits, tokenizer, rendered chats, pictures.

check.py [FOLDER...]     needs torch, torchvision, transformers, tokenizers, safetensors
"""

import json
import os
import sys

import torch
from transformers import AutoTokenizer, Llama4ForCausalLM, Llama4ForConditionalGeneration, Llama4Processor
from transformers.models.llama4.image_processing_llama4 import Llama4ImageProcessor

import pictures
import see
import train
import vocab
from tower import LEVELS, VisionConfig

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}
PRE = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best answers the "
    'given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)
SYS = (
    "You have access to the following functions. To call a function, please respond with JSON for a function call.Respond in the "
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


def check_pictures(folder, model, hf_tok, rows):
    """Ids, tiles and logits of held-out questions about pictures. -> number of failures"""
    net, coder = see.load_export(folder)
    processor = Llama4Processor(
        Llama4ImageProcessor.from_pretrained(folder), hf_tok, VisionConfig.patch, chat_template=hf_tok.chat_template
    )
    worst, bad = 0.0, 0
    for r in rows:
        scenes, _ = pictures.document(r["seed"], pictures.FULL, True)
        images = [torch.from_numpy(pictures.draw(s)).permute(2, 0, 1) for s in scenes]
        content = [{"type": "image"}] * len(scenes) + [{"type": "text", "text": r["question"]}]
        chat = [{"role": "user", "content": content}, {"role": "assistant", "content": r["answer"]}]
        text = hf_tok.apply_chat_template(chat, tokenize=False)
        x = processor(text=[text], images=images, return_tensors="pt", add_special_tokens=False)
        ids, learned, tiles = see.question(coder, r)
        if x["input_ids"][0].tolist() != ids or not torch.equal(
            x["pixel_values"].float(), LEVELS[tiles.long()].float()
        ):
            bad += 1
            print("other ids or tiles:", r)
            continue
        with torch.no_grad():
            want = model(input_ids=x["input_ids"], pixel_values=x["pixel_values"].float()).logits[0]
            b, d, _, _, t = see.batch([(ids, learned, tiles)])
            h = net.hidden(b, d, torch.float32, net.embed_all(b, t, torch.float32))[0]
            got = net.logits(h, torch.float32)[0, : len(ids)]
        worst = max(worst, ((got - want).norm() / want.norm()).item())
    print(f"{len(rows)} questions about pictures: relative error at most {worst:.2e}")
    return bad + (not worst < 1e-5)


def check(folder):
    """-> number of failures"""
    sees = os.path.exists(os.path.join(folder, "preprocessor_config.json"))
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
    kind = Llama4ForConditionalGeneration if sees else Llama4ForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    lines = [json.loads(s)["text"] for s in open(os.path.join(train.HERE, "heldout", "text.jsonl"))]
    ids = vocab.Coder(tok).texts([" ".join(lines[:4])])[0][0][:700]
    with torch.no_grad():
        want = model(torch.tensor([ids])).logits[0]
    ((_, got),) = train.run_rows(net, [ids])
    err = ((got - want).norm() / want.norm()).item()
    same = (got.argmax(-1) == want.argmax(-1)).float().mean().item()
    print(f"{len(ids)} tokens: relative error {err:.2e}, same first choice {same:.4f}")
    bad += not err < 1e-5
    if sees:
        rows = [json.loads(s) for s in open(os.path.join(train.HERE, "seeing", "heldout", "pictures.jsonl"))]
        bad += check_pictures(folder, model, hf_tok, rows[::40])
    print("failures:", bad)
    return bad


def main():
    torch.set_num_threads(1)
    folders = sys.argv[1:] or [os.path.join(train.HERE, x) for x in ("model", os.path.join("seeing", "model"))]
    return sum(check(f) for f in folders) > 0


if __name__ == "__main__":
    sys.exit(main())
