#!/usr/bin/env python3
"""Writes seeing/: a tiny random checkpoint with a vision tower that fits tests/golden/tokenizer/small, questions about
pictures, and what transformers' Llama4ForConditionalGeneration in float32 makes of them.

choice.lp holds a line per question and way of asking (letter or option, text or chat): the log likelihoods of its options.
reply.txt holds the greedy reply to the first question of chart.jsonl; the script refuses margins below 0.01. Needs torch,
transformers (5.23), tokenizers, safetensors, Pillow.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers.models.llama4.image_processing_llama4 import Llama4ImageProcessor, find_supported_resolutions

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "golden/vision"))
sys.dont_write_bytecode = True
import make_vision as mv  # noqa: E402

OUT = HERE / "seeing"
TOK = Tokenizer.from_file(str(HERE.parent / "golden/tokenizer/small/tokenizer.json"))
# without the control tokens, whose names in a text would be taken for them
PLAIN = Tokenizer.from_str(json.dumps({**json.loads(TOK.to_str()), "added_tokens": []}))
BOS, EOT = TOK.token_to_id("<|begin_of_text|>"), TOK.token_to_id("<|eot|>")
SIDE = 8

mv.TEXT = dict(mv.TEXT, hidden_size=16, head_dim=8, num_attention_heads=2, num_key_value_heads=1, intermediate_size=16,
               intermediate_size_mlp=32, attention_chunk_size=64, vocab_size=TOK.get_vocab_size(), bos_token_id=BOS,
               eos_token_id=[TOK.token_to_id("<|end_of_text|>"), EOT], pad_token_id=None)
mv.START, mv.END, mv.IMAGE, mv.NEXT_COL, mv.NEXT_ROW, mv.PATCH = (
    TOK.token_to_id(f"<|{n}|>") for n in ("image_start", "image_end", "image", "tile_x_separator", "tile_y_separator",
                                          "patch"))
VISION = dict(mv.TINY, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=64,
              vision_output_dim=16, projector_input_dim=16, projector_output_dim=16, image_size=SIDE)
PICTURES = {"small.png": (8, 8), "wide.png": (9, 31), "tall.png": (20, 8), "other.png": (8, 8)}
CHOICE = [  # question with its pictures cut out of it: strings are text, numbers are pictures
    dict(id="one", question="What is it?", images=["small.png"], choices=["a dog", "the cat", "12"], answer=1,
         parts=[0, "What is it?"]),
    dict(id="other", question="What is it?", images=["other.png"], choices=["a dog", "the cat", "12"], answer=1,
         parts=[0, "What is it?"]),  # the same tokens, another picture
    dict(id="two", question="Is <image 2> larger than <image 1>?", images=["wide.png", "tall.png"],
         choices=["yes", "no, it is not"], answer="B", parts=["Is ", 1, " larger than ", 0, "?"]),
    dict(id="again", question="And now: <image>", images=["small.png"], choices=["red", "green", "blue"], answer="red",
         parts=["And now: ", 0, ""]),
    dict(id="blind", question="No picture here.", choices=["true", "false"], answer="A", parts=["No picture here."]),
]
CHART = dict(query="How many dogs?", imgname="wide.png")


def pixels_of(name):
    a = np.asarray(Image.open(OUT / "png" / name))
    settings = {k: v for k, v in mv.preprocessor(VISION).items() if k != "image_processor_type"}
    find_supported_resolutions.cache_clear()
    r = Llama4ImageProcessor(**settings)(torch.from_numpy(a.copy()).permute(2, 0, 1), return_tensors="pt",
                                         input_data_format="channels_first")
    rows, cols = (int(x) for x in r["aspect_ratios"][0])
    return r["pixel_values"].float(), mv.block(rows, cols, (SIDE // 2 // 2) ** 2)


def plain(text):
    return PLAIN.encode(text, add_special_tokens=False).ids


def control(role):
    return [TOK.token_to_id("<|header_start|>")] + plain(role) + [TOK.token_to_id("<|header_end|>")]


def prompt_of(parts, images, chat):
    """ids and pixels; what a chat puts before a message belongs to the first piece of its text"""
    ids, pixels, text = [BOS] + (control("user") if chat else []), [], "\n\n" if chat else ""
    for p in parts:
        if isinstance(p, str):
            text += p
            continue
        one, block = pixels_of(images[p])
        ids += (plain(text) if text else []) + block
        pixels.append(one)
        text = ""
    ids += plain(text) if text else []
    if chat:
        ids += [EOT] + control("assistant") + plain("\n\n")
    return ids, torch.cat(pixels) if pixels else None


def logits_of(model, ids, pixels):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), pixel_values=pixels, use_cache=False).logits[0].double()


def likelihoods(model, q, by, chat):
    parts = list(q["parts"])
    if by == "letter":
        parts[-1] += "\n" + "\n".join(f"{chr(65 + i)}. {c}" for i, c in enumerate(q["choices"])) + "\nAnswer:"
    elif not chat:
        at = next((i for i, p in enumerate(parts) if isinstance(p, str)))
        parts[at] = "Question: " + parts[at]
        parts[-1] += "\nAnswer:"
    ids, pixels = prompt_of(parts, q.get("images"), chat)
    out = []
    for i, c in enumerate(q["choices"]):
        reply = plain(("" if chat else " ") + (chr(65 + i) if by == "letter" else c))
        logits = logits_of(model, ids + reply, pixels)
        log_p = torch.log_softmax(logits[len(ids) - 1:-1], -1)
        out.append(log_p[torch.arange(len(reply)), torch.tensor(reply)].sum().item())
    return out


def greedy(model, ids, pixels, n):
    out = []
    for _ in range(n):
        top = logits_of(model, ids + out, pixels)[-1].topk(2)
        assert top.values[0] - top.values[1] >= 0.01, "ask something else"
        out.append(int(top.indices[0]))
        if out[-1] in mv.TEXT["eos_token_id"]:
            break
    return TOK.decode(out)


def write_lines(name, lines):
    (OUT / name).write_text("".join(line + "\n" for line in lines))


def main():
    torch.set_num_threads(1)
    (OUT / "png").mkdir(parents=True, exist_ok=True)
    for i, (name, (h, w)) in enumerate(PICTURES.items()):
        Image.fromarray(mv.pattern(h, w, 300 + i)).save(OUT / "png" / name)
    model = mv.model_of(VISION)
    save_file({k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}, OUT / "model.safetensors")
    for name, doc in (("config.json", mv.config_of(VISION)), ("preprocessor_config.json", mv.preprocessor(VISION))):
        (OUT / name).write_text(json.dumps(doc, indent=1) + "\n")
    write_lines("choice.jsonl", [json.dumps({k: [f"png/{i}" for i in v] if k == "images" else v for k, v in q.items()
                                             if k != "parts"}) for q in CHOICE])
    write_lines("choice.lp", [f"{by} {kind} {q['id']} " + " ".join(f"{x:.6f}" for x in likelihoods(model, q, by, kind == "chat"))
                              for by in ("letter", "option") for kind in ("text", "chat") for q in CHOICE])
    ids, pixels = prompt_of([0, CHART["query"] + "\nAnswer with a number, a word or a short phrase."], [CHART["imgname"]], True)
    reply = greedy(model, ids, pixels, 3)
    (OUT / "reply.txt").write_text(reply + "\n")
    print("reply", repr(reply))


main()
