#!/usr/bin/env python3
"""Makes the demo checkpoint that sees, from the one that reads: trains a vision tower and the text layers on drawn pictures.

    see.py --work DIR --text data.npz [--minutes 75] [STEP ...]

Steps, in this order when none is named: look, train, export, heldout, eval. `look` teaches the tower alone to name what is
in each part of a picture, in the embeddings of the words; from answers alone it would learn that much later. `draw` writes
the held-out pictures as PNG files. The work folder holds the training state, saved every few minutes; a run that was stopped
goes on from there. --text names the rows that train.py made, from which some are learned along.
"""

import argparse
import ctypes
import json
import multiprocessing as mp
import os
import random
import time

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import optim
import pictures
import train
import vocab
from net import Config, Net
from tower import LEVELS, Tower, VisionConfig, block, to_tiles

HERE = os.path.dirname(os.path.abspath(__file__))
EASY_UNTIL = 0.25  # share of the time with the simple pictures alone


class SeeingNet(Net):
    def __init__(self):
        super().__init__()
        self.tower = Tower()
        self.patch_id = None

    def embed_all(self, ids, tiles, dtype):
        """Embeddings with the tiles' features in the places of the patch tokens. tiles: uint8, or None."""
        h = torch.nn.functional.embedding(ids, self.embed)
        if tiles is None:
            return h
        f = self.tower(LEVELS[tiles.long()].float(), dtype).flatten(0, 1)
        at = (ids == self.patch_id).flatten().nonzero()[:, 0]
        return h.flatten(0, 1).index_copy(0, at, f).view_as(h)

    def loss(self, ids, doc, target, weight, total, dtype, tiles=None):
        h, aux, shares = self.hidden(ids, doc, dtype, self.embed_all(ids, tiles, dtype))
        keep = (weight > 0).flatten().nonzero()[:, 0]
        lg = self.logits(h.flatten(0, 1)[keep], dtype)
        ce = torch.nn.functional.cross_entropy(lg, target.flatten()[keep], reduction="none")
        return (ce * weight.flatten()[keep]).sum() / total, aux, shares


# ---- documents ---------------------------------------------------------------------------------------------------------


def chat_ids(coder, grids, turns):
    """turns: [(question, answer)]; the pictures stand before the first question. -> ids, which of them are learned"""
    ids, learned = [coder.id["begin_of_text"]], [0]
    for i, (q, a) in enumerate(turns):
        user = coder.head["user"] + coder.plain(["\n\n"])[0] if i == 0 else coder.head["user"]
        if i == 0:
            for g in grids:
                user = user + block(coder.id, g)
            user = user + coder.plain([q])[0]
        else:
            user = user + coder.plain(["\n\n" + q])[0]
        user = user + [coder.id["eot"]] + coder.head["assistant"]
        answer = coder.plain(["\n\n" + a])[0] + [coder.id["eot"]]
        ids += user + answer
        learned += [0] * (len(user) + 1) + [1] * (len(answer) - 1)  # not the line break
    return ids, learned


def document(coder, seed, mix, held=False, limit=Config.chunk):
    """-> ids, learned, tiles. Up to seven questions about the same pictures, as far as they fit."""
    r = random.Random(seed)
    scenes, asked = pictures.document(seed, mix, held)
    got = [to_tiles(pictures.draw(s)) for s in scenes]
    if mix is pictures.EASY:
        asked.sort(key=lambda x: x[0] != "describe")  # it has the most to learn from
    turns = [(q, a) for _, q, a in asked][: r.choice([1, 3, 5, 7])]
    while turns:
        ids, learned = chat_ids(coder, [g for _, g in got], turns)
        if len(ids) <= limit:
            return ids, learned, torch.cat([t for t, _ in got])
        turns.pop()
    return document(coder, seed + 1, mix, held, limit)  # two large pictures with a long question


def share_rows(docs, n):
    """Which documents stand in which row of n tokens, longest first: lists of numbers"""
    rows = []
    for k in sorted(range(len(docs)), key=lambda k: -len(docs[k][0])):
        for r in rows:
            if sum(len(docs[j][0]) for j in r) + len(docs[k][0]) <= n:
                r.append(k)
                break
        else:
            rows.append([k])
    return rows


def batch(docs):
    """-> ids, doc numbers, targets, learned, tiles. Several documents share a row of one chunk and do not see each other;
    since positions count only by their distance there, each is computed as if it stood alone. A longer document has a
    batch for itself, of several chunks."""
    n = Config.chunk
    if len(docs) == 1:
        n = -(-len(docs[0][0]) // n) * n
    rows = share_rows(docs, n)
    x, w = torch.zeros(len(rows), n, dtype=torch.long), torch.zeros(len(rows), n)
    doc = torch.full((len(rows), n), len(docs))
    for i, r in enumerate(rows):
        at = 0
        for k in r:
            ids, learned, _ = docs[k]
            x[i, at : at + len(ids)] = torch.tensor(ids)
            doc[i, at : at + len(ids)] = k
            w[i, at : at + len(ids) - 1] = torch.tensor(learned[1:]).float()
            at += len(ids)
    return x, doc, torch.roll(x, -1, 1), w, torch.cat([docs[k][2] for r in rows for k in r])


# ---- the tower alone ---------------------------------------------------------------------------------------------------


class Looker(torch.nn.Module):
    """The tower with heads that are thrown away afterwards. The colour and the shape at a token's place are read off its
    feature by the embeddings of their words, so that the feature is near to what the text part knows already; digits and
    bars by free matrices over the whole tile."""

    def __init__(self, net, coder):
        super().__init__()
        c = VisionConfig
        self.tower = net.tower

        def words(names):
            first = [coder.plain([" " + x])[0][0] for x in names]
            assert len(set(first)) == len(first)
            return net.embed[first].detach().clone()

        self.register_buffer("colours", words(pictures.COLOURS))
        self.register_buffer("shapes", words(pictures.SHAPES))
        self.unit = 16 * self.colours.pow(2).mean().item()
        self.none = torch.nn.Parameter(torch.zeros(2, c.d_text))
        self.large = torch.nn.Parameter(torch.zeros(3, c.d_text))
        self.digits = torch.nn.Parameter(torch.zeros(3 * 11, c.n_token * c.d_text))
        self.bars = torch.nn.Parameter(torch.zeros(4 * 21, c.n_token * c.d_text))

    def loss(self, tiles, targets, dtype):
        """targets: int [n, 27 + 3 + 8], -1 where there is nothing to learn"""
        f = self.tower(LEVELS[tiles.long()].float(), dtype)
        n, flat = len(f), f.flatten(1) / 16
        seen = [
            f @ torch.cat([self.colours, self.none[:1]]).T / self.unit,
            f @ torch.cat([self.shapes, self.none[1:]]).T / self.unit,
            f @ self.large.T / 16,
        ]
        bars = (flat @ self.bars.T).view(n, 4, 21)
        parts = [
            *((x, targets[:, 9 * i : 9 * i + 9], 1.0) for i, x in enumerate(seen)),
            ((flat @ self.digits.T).view(n, 3, 11), targets[:, 27:30], 1.0),
            (bars[..., :11], targets[:, 30:34], 0.5),
            (bars[..., 11:], targets[:, 34:38], 1.0),
        ]
        out = 0.0
        for lg, t, weight in parts:
            out = out + weight * torch.nn.functional.cross_entropy(
                lg.flatten(0, 1), t.flatten(), ignore_index=-1, reduction="sum"
            ) / (n * t.shape[1])
        return out


def looked_at(seed):
    """A picture of one tile -> the tile, and what is where"""
    r = random.Random(f"look {seed}")
    while True:
        k = r.random()
        if k < 0.6:
            s = pictures.shapes_scene(r, False, r.randint(1, 7), r.choice([None, None, 1, 2]))
        elif k < 0.82:
            s = pictures.number_scene(r, False)
        else:
            s = pictures.chart_scene(r, False)
        if not pictures.held_out(s):
            break
    tile, _ = to_tiles(pictures.draw(s))
    t = [-1] * 38
    if s["kind"] == "shapes":
        t[:27] = [len(pictures.COLOURS)] * 9 + [len(pictures.SHAPES)] * 9 + [2] * 9
        scale = min(pictures.TILE / max(s["h"], s["w"]), 99)
        for o in s["objects"]:
            at = min(int(o["y"] * scale / 28), 2) * 3 + min(int(o["x"] * scale / 28), 2)
            t[at] = list(pictures.COLOURS).index(o["colour"])
            t[9 + at] = pictures.SHAPES.index(o["shape"])
            t[18 + at] = int(o["r"] > 0.24 * min(s["h"], s["w"]) / 2)
    elif s["kind"] == "number":
        t[27:30] = ([int(c) for c in s["text"]] + [10] * 3)[:3]
    else:
        b = s["bars"]
        t[30:38] = ([list(pictures.COLOURS).index(x["colour"]) for x in b] + [10] * 4)[:4] + (
            [x["high"] for x in b] + [0] * 4
        )[:4]
    return tile, t


# ---- training ----------------------------------------------------------------------------------------------------------


class Optimiser(optim.Optimiser):
    """Muon for the matrices of the layers and the adapter, Adam for the rest; the text part has its own rates."""

    def __init__(self, net, args):
        self.lr_text, self.lr_adam, self.text_muon = args.lr_text, args.lr_adam, args.lr_muon / args.lr
        super().__init__(net, decay=0.02)

    def is_muon(self, name, p):
        if not name.startswith("tower."):
            return super().is_muon(name, p)
        return p.ndim == 2 and not name.endswith((".pos", ".patch"))

    def muon_rate(self, name):
        return 1.0 if name.startswith("tower.") else self.text_muon

    def adam_rate(self, name):
        if name.startswith("tower.") or name in ("none", "large", "digits", "bars"):
            return self.lr_adam
        return {"embed": 2.0, "router": 0.3}.get(name.split(".")[-1], 1.0) * self.lr_text

    def unit_of(self, name):
        if name.startswith("tower."):
            return ".".join(name.split(".")[:3]) if ".layers." in name else "tower"
        return super().unit_of(name)


def micro_batch(args, coder, text, net, step, part):
    """The part-th share of a step's work, the same whoever asks. -> arguments for loss, its number of learned tokens"""
    rng = np.random.default_rng((args.seed, step, part))
    if part == 0:
        ids, ws, ds = text
        at = rng.choice(len(ids), args.text_rows, replace=False)
        w = torch.from_numpy(ws[at].astype(np.float32)) * 0.5
        w[:, :-1] = w[:, 1:] * torch.from_numpy((ds[at, 1:] == ds[at, :-1]).astype(np.float32))
        w[:, -1] = 0
        x = torch.from_numpy(ids[at].astype(np.int64))
        return (x, torch.from_numpy(ds[at].astype(np.int64)), torch.roll(x, -1, 1), w), None
    mix = pictures.EASY if args.easy else pictures.FULL
    seeds = rng.integers(0, 2**40, args.docs)
    return batch([document(coder, int(s), mix) for s in seeds])


def part_loss(args, net, coder, text, step, part, total):
    """One part of a step: -> what to differentiate, the cross entropy, and whether it is about pictures"""
    if args.looking:
        rng = np.random.default_rng((args.seed, step, part))
        got = [looked_at(int(s)) for s in rng.integers(0, 2**40, args.tiles)]
        ce = net.loss(torch.cat([t for t, _ in got]), torch.tensor([t for _, t in got]), torch.bfloat16) / total
        return ce, ce.item(), True
    if part == 0:
        (x, d, t, w), tiles = micro_batch(args, coder, text, net, step, 0)
        share, parts = args.text_share, 1
    else:
        x, d, t, w, tiles = micro_batch(args, coder, text, net, step, part)
        share, parts = 1.0, args.parts
    ce, aux, _ = net.loss(x, d, t, w, w.sum().clamp(min=1) * parts, torch.bfloat16, tiles)
    return share * ce + 0.01 / total * aux, ce.item(), part > 0


def worker(rank, args, net, opt, grads, coder, text, shared):
    """One single-threaded process, as in train.py: weights, optimiser and gradients are shared, each takes what is next."""
    libc = ctypes.CDLL(None)
    libc.mallopt(-4, 0)
    libc.mallopt(-1, -1)
    torch.set_num_threads(1)
    barrier, batches, units, value = shared["barrier"], shared["batches"], shared["units"], shared["value"]
    for name, p in net.named_parameters():
        p.grad = grads[rank][name]
    parts = args.parts + (not args.looking)
    first = step = int(value[0])
    budget, saved, logged, start = (
        (args.look_minutes if args.looking else args.minutes) * 60,
        time.time(),
        time.time(),
        time.time(),
    )
    spent0, sums = value[1].item(), []
    while value[1] < budget:
        args.easy = not args.looking and value[1].item() < EASY_UNTIL * budget
        for p in net.parameters():
            p.grad.zero_()
        value[4 + 2 * rank] = value[5 + 2 * rank] = 0
        barrier.wait()
        while (ticket := batches.take((step - first + 1) * parts)) is not None:
            goal, ce, pictured = part_loss(args, net, coder, text, step, ticket % parts, parts)
            goal.backward()
            value[4 + pictured + 2 * rank] += ce
        if rank == 0:
            value[2] = train.rate((value[1].item() + 1) / budget, 0.01, 0.4)
        barrier.wait()
        f = value[2].item()
        keep = min(0.995, 1 - 1 / (step + 1)) if f >= 1 else 0.98
        while (ticket := units.take((step - first + 1) * len(opt.units))) is not None:
            opt.update(ticket % len(opt.units), grads, args.lr * f, f, step + 1, keep)
        barrier.wait()
        step += 1
        if rank == 0:
            value[0] = step
            value[1] = spent0 + time.time() - start
            sums.append((value[4::2].sum().item(), value[5::2].sum().item()))
            if time.time() - logged > 30 or step - first <= 2:
                dt = (time.time() - logged) / len(sums)
                print(
                    f"step {step} spent {value[1].item():.0f}s text {np.mean([a for a, _ in sums]):.4f} pictures "
                    f"{np.mean([b for _, b in sums]):.4f} rate {f:.3f} s/step {dt:.2f} easy {args.easy}",
                    flush=True,
                )
                logged, sums = time.time(), []
            if time.time() - saved > 180:
                save_state(args, net, opt, step, value)
                saved = time.time()
        barrier.wait()


def start_net(args):
    net = SeeingNet()
    net.load_state_dict(train.load_export(args.model)[0].state_dict(), strict=False)
    tok = Tokenizer.from_file(f"{args.model}/tokenizer.json")
    coder = vocab.Coder(tok)
    net.patch_id = coder.id["patch"]
    feature_size(net, coder, 1.0)
    return net, coder


@torch.no_grad()
def feature_size(net, coder, size):
    """Make the pictures' features size times as large as the embeddings of words."""
    tiles = torch.cat([document(coder, s, pictures.FULL)[2] for s in range(20)])
    f = net.tower(LEVELS[tiles.long()].float(), torch.float32)
    net.tower.out.mul_(size * net.embed[:4064].pow(2).mean().sqrt() / f.pow(2).mean().sqrt())


def save_state(args, net, opt, step, value):
    path = f"{args.work}/{'look' if args.looking else 'state'}.pt"
    torch.save({"net": net.state_dict(), "opt": opt.state, "step": step, "spent": value[1].item()}, path + ".new")
    os.replace(path + ".new", path)


def run(args, net, coder, text):
    """Train net with all workers, from the saved state on if there is one."""
    net.share_memory()
    opt = Optimiser(net, args)
    value = torch.zeros(4 + 2 * args.workers, dtype=torch.float64).share_memory_()  # step, seconds, rate, -, losses
    path = f"{args.work}/{'look' if args.looking else 'state'}.pt"
    if os.path.exists(path):
        s = torch.load(path)
        net.load_state_dict(s["net"])
        for name, tensors in s["opt"].items():
            for a, b in zip(opt.state[name], tensors):
                a.copy_(b)
        value[0], value[1] = s["step"], s["spent"]
        print("continued at step", s["step"], flush=True)
    grads = [
        {k: torch.zeros_like(p).detach().share_memory_() for k, p in net.named_parameters()}
        for _ in range(args.workers)
    ]
    ctx = mp.get_context("fork")
    shared = {
        "barrier": ctx.Barrier(args.workers),
        "batches": train.Tickets(),
        "units": train.Tickets(),
        "value": value,
    }
    jobs = [
        ctx.Process(target=worker, args=(r, args, net, opt, grads, coder, text, shared)) for r in range(args.workers)
    ]
    for j in jobs:
        j.start()
    for j in jobs:
        j.join()
    if any(j.exitcode for j in jobs):
        raise SystemExit("a worker failed")
    save_state(args, net, opt, int(value[0]), value)


def step_look(args):
    torch.set_num_threads(1)
    torch.manual_seed(1)
    args.looking = True
    net, coder = start_net(args)
    run(args, Looker(net, coder), coder, None)


def step_train(args):
    torch.set_num_threads(1)
    torch.manual_seed(1)
    args.looking = False
    z = np.load(args.text)
    n = len(z["ids"]) // 2  # the later rows are the mix the text training ended with
    text = z["ids"][n:], z["weights"][n:], z["docs"][n:]
    net, coder = start_net(args)
    s = torch.load(f"{args.work}/look.pt")["opt"]
    net.load_state_dict({k: v[-1] for k, v in s.items() if k.startswith("tower.")}, strict=False)
    feature_size(net, coder, 2.0)
    run(args, net, coder, text)


# ---- export ------------------------------------------------------------------------------------------------------------


def hf_config(ids):
    """The text configuration as train.py writes it, inside one for both."""
    c = VisionConfig
    text = train.hf_config(Config, ids)
    del text["architectures"]
    return {
        "architectures": ["Llama4ForConditionalGeneration"],
        "model_type": "llama4",
        "torch_dtype": "bfloat16",
        "text_config": text,
        "vision_config": {
            "model_type": "llama4_vision_model",
            "torch_dtype": "bfloat16",
            "hidden_size": c.d_model,
            "hidden_act": "gelu",
            "num_hidden_layers": c.n_layer,
            "num_attention_heads": c.n_head,
            "num_channels": 3,
            "intermediate_size": 4 * c.d_model,
            "vision_output_dim": c.d_adapter,
            "image_size": c.image,
            "patch_size": c.patch,
            "norm_eps": 1e-5,
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "default",
            "initializer_range": 0.02,
            "pixel_shuffle_ratio": 0.5,
            "projector_input_dim": c.d_adapter,
            "projector_output_dim": c.d_adapter,
            "multi_modal_projector_bias": False,
            "projector_dropout": 0.0,
            "attention_dropout": 0.0,
            "rope_theta": c.rope_theta,
        },
        "boi_token_index": ids["image_start"],
        "eoi_token_index": ids["image_end"],
        "image_token_index": ids["patch"],
        "tie_word_embeddings": False,
        "bos_token_id": text["bos_token_id"],
        "eos_token_id": text["eos_token_id"],
        "pad_token_id": text["pad_token_id"],
    }


PREPROCESSOR = {
    "image_processor_type": "Llama4ImageProcessor",
    "processor_class": "Llama4Processor",
    "do_convert_rgb": True,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "size": {"height": VisionConfig.image, "width": VisionConfig.image},
    "max_patches": VisionConfig.max_tiles,
    "resize_to_max_canvas": False,
}
PROCESSOR = {
    "processor_class": "Llama4Processor",
    "patch_size": VisionConfig.patch,
    "pixel_shuffle_ratio": 0.5,
    "fake_image_token": "<|image|>",
    "image_token": "<|image|>",
    "start_of_image_token": "<|image_start|>",
    "end_of_image_token": "<|image_end|>",
    "patch_token": "<|patch|>",
    "tile_x_separator_token": "<|tile_x_separator|>",
    "tile_y_separator_token": "<|tile_y_separator|>",
}

TOWER = {
    "patch": "vision_model.patch_embedding.linear.weight",
    "cls": "vision_model.class_embedding",
    "pos": "vision_model.positional_embedding_vlm",
    "norm_pre": "vision_model.layernorm_pre",
    "norm_post": "vision_model.layernorm_post",
    "fc1": "vision_model.vision_adapter.mlp.fc1.weight",
    "fc2": "vision_model.vision_adapter.mlp.fc2.weight",
    "out": "multi_modal_projector.linear_1.weight",
}
TOWER_LAYER = {
    "norm_in": "input_layernorm",
    "norm_post": "post_attention_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}


def hf_name(name):
    if not name.startswith("tower."):
        return "language_model." + train.hf_name(name)
    w = name.split(".")[1:]
    if w[0] == "layers":
        return f"vision_model.model.layers.{w[1]}.{TOWER_LAYER[w[2]]}.{w[3]}"
    return ".".join([TOWER[w[0]], *w[1:]])


def step_export(args):
    folder = f"{args.out}/model"
    os.makedirs(folder, exist_ok=True)
    tok = Tokenizer.from_file(f"{args.model}/tokenizer.json")
    s = torch.load(f"{args.work}/state.pt")
    weights = {hf_name(k): v[-1].bfloat16().contiguous() for k, v in s["opt"].items()}
    save_file(weights, f"{folder}/model.safetensors", {"format": "pt"})
    os.chmod(f"{folder}/model.safetensors", 0o644)
    ids = vocab.Coder(tok).id
    for name, value in (
        ("config", hf_config(ids)),
        ("preprocessor_config", PREPROCESSOR),
        ("processor_config", PROCESSOR),
    ):
        with open(f"{folder}/{name}.json", "w") as f:
            json.dump(value, f, indent=2)
            f.write("\n")
    vocab.write(tok, folder, Config.max_pos)
    print("exported step", s["step"], "after", round(s["spent"] / 60, 1), "minutes")


def load_export(folder):
    net = SeeingNet()
    files = load_file(f"{folder}/model.safetensors")
    net.load_state_dict({k: files[hf_name(k)].float() for k in net.state_dict()})
    coder = vocab.Coder(Tokenizer.from_file(f"{folder}/tokenizer.json"))
    net.patch_id = coder.id["patch"]
    return net.eval(), coder


# ---- held-out set and evaluation ---------------------------------------------------------------------------------------


def picture_name(seed, i):
    return f"pictures/{seed}{'ab'[i]}.png"


def step_heldout(args, per_task=50):
    """heldout/pictures.jsonl: one question a line, with the number of the document whose pictures it is about."""
    folder = f"{args.out}/heldout"
    os.makedirs(folder, exist_ok=True)
    rows, have, seed = [], {}, 0
    while seed < 40 * per_task:
        scenes, asked = pictures.document(seed, pictures.FULL, True)
        tiles = sum(len(to_tiles(pictures.draw(s))[0]) for s in scenes)
        large = len(scenes) == 1 and tiles > 1
        for task, q, a in asked[:3]:
            # half of the room for each of yes and no; questions about large pictures are counted for themselves
            slot = (task, large, a if a in ("Yes", "No") else "")
            if have.get(slot, 0) < per_task // (2 if slot[2] else 1) // (2 if large else 1):
                have[slot] = have.get(slot, 0) + 1
                images = [picture_name(seed, i) for i in range(len(scenes))]
                rows.append({"task": task, "seed": seed, "images": images, "tiles": tiles, "question": q, "answer": a})
        seed += 1
    rows.sort(key=lambda r: (r["task"], r["seed"]))
    with open(f"{folder}/pictures.jsonl", "w") as f:
        for r in rows:
            f.write(json.dumps(r) + "\n")
    print(len(rows), "questions about pictures")


def step_draw(args):
    """Writes the pictures of the held-out questions where heldout/pictures.jsonl looks for them."""
    os.makedirs(f"{args.out}/heldout/pictures", exist_ok=True)
    for seed in sorted({json.loads(s)["seed"] for s in open(f"{args.out}/heldout/pictures.jsonl")}):
        for i, s in enumerate(pictures.document(seed, pictures.FULL, True)[0]):
            with open(f"{args.out}/heldout/{picture_name(seed, i)}", "wb") as f:
                f.write(pictures.png(pictures.draw(s)))


def question(coder, row):
    """A line of the held-out set -> ids, learned, tiles"""
    scenes, _ = pictures.document(row["seed"], pictures.FULL, True)
    got = [to_tiles(pictures.draw(s)) for s in scenes]
    ids, learned = chat_ids(coder, [g for _, g in got], [(row["question"], row["answer"])])
    return ids, learned, torch.cat([t for t, _ in got])


@torch.no_grad()
def evaluate(net, coder, rows, dtype=torch.float32):
    """-> for each line whether greedy decoding gives the answer and then ends the turn"""
    docs = [question(coder, r) for r in rows]
    long = [i for i, d in enumerate(docs) if len(d[0]) > Config.chunk]
    short = [i for i, d in enumerate(docs) if len(d[0]) <= Config.chunk]
    good = [False] * len(rows)
    for part in [short[i : i + 32] for i in range(0, len(short), 32)] + [[i] for i in long]:
        x, doc, t, w, tiles = batch([docs[i] for i in part])
        lg = net.logits(net.hidden(x, doc, dtype, net.embed_all(x, tiles, dtype))[0], dtype)
        wrong = (lg.argmax(-1) != t) & (w > 0)
        for k, i in enumerate(part):
            good[i] = not wrong[doc == k].any().item()
    return good


def table(rows, good):
    out = {}
    for r, g in zip(rows, good):
        kind = "two pictures" if len(r["images"]) > 1 else "several tiles" if r["tiles"] > 1 else "one tile"
        for k in (r["task"], "= " + kind, "= all"):
            s = out.setdefault(k, [0, 0])
            s[0], s[1] = s[0] + g, s[1] + 1
    return out


def step_eval(args):
    torch.set_num_threads(args.threads)
    net, coder = load_export(f"{args.out}/model")
    rows = [json.loads(s) for s in open(f"{args.out}/heldout/pictures.jsonl")]
    for k, (a, n) in sorted(table(rows, evaluate(net, coder, rows)).items()):
        print(f"{k:16} {a}/{n} = {a / n:.2f}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("steps", nargs="*", help="look train export heldout draw eval")
    p.add_argument("--work", required=True, help="folder for the training state")
    p.add_argument("--model", default=f"{HERE}/model", help="text checkpoint to start from")
    p.add_argument("--text", help="data.npz of train.py")
    p.add_argument("--out", default=f"{HERE}/seeing")
    p.add_argument("--minutes", type=float, default=75)
    p.add_argument("--look-minutes", type=float, default=10)
    p.add_argument("--tiles", type=int, default=32, help="tiles a worker takes at once when the tower is trained alone")
    p.add_argument("--seed", type=int, default=9, help="of the pictures")
    p.add_argument("--docs", type=int, default=16, help="chats with pictures a worker takes at once")
    p.add_argument("--parts", type=int, default=2, help="of these in a step")
    p.add_argument("--text-rows", type=int, default=1, help="rows of text in a step")
    p.add_argument("--text-share", type=float, default=0.4, help="weight of their loss")
    p.add_argument("--lr", type=float, default=0.02, help="of Muon, for the tower's matrices")
    p.add_argument("--lr-adam", type=float, default=1e-3, help="of Adam, for the rest of the tower")
    p.add_argument("--lr-muon", type=float, default=0.008, help="of Muon, for the text part")
    p.add_argument("--lr-text", type=float, default=4e-4, help="of Adam, for the rest of the text part")
    p.add_argument("--workers", type=int, default=2, help="training processes, one core each")
    p.add_argument("--threads", type=int, default=2, help="of the evaluation")
    args = p.parse_args()
    os.makedirs(args.work, exist_ok=True)
    for s in args.steps or ["look", "train", "export", "heldout", "eval"]:
        globals()["step_" + s](args)


if __name__ == "__main__":
    main()
