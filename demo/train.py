#!/usr/bin/env python3
"""Makes the demo checkpoint from nothing: data, tokenizer, training, export, evaluation. See README.md.

    train.py --work DIR --bible FILE --austen FILE --shakespeare FILE [--minutes 80] [STEP ...]

Steps, in this order when none is named: data, train, export, heldout, eval. Training saves its state in the work folder
every few minutes and goes on from there when started again. The schedule follows the clock: warm-up, constant, and a
linear decay over the last part of the minutes, so that the same command fits slow and fast machines.
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

import corpus
import optim
import stories
import tasks
import vocab
from net import Config, Net

HERE = os.path.dirname(os.path.abspath(__file__))
ROW = 512


# What the data consists of, in the order in which it is trained on: share of all tokens, then shares of the kinds. Looking
# back in the text comes first, because nearly every skill here needs it and a model of this size finds it late by itself.
STAGES = [
    (0.3, {"book": 0.10, "own": 0.18, "talk": 0.12, "skill": 0.34, "copy": 0.10, "repeat": 0.16}),
    (0.2, {"book": 0.06, "own": 0.14, "talk": 0.10, "skill": 0.40, "choice": 0.30}),
    (0.5, {"book": 0.06, "own": 0.13, "talk": 0.11, "skill": 0.65, "choice": 0.05}),
]
TEXTS = {"own": corpus.own_text, "repeat": tasks.repeated}
CHATS = {"skill": corpus.skill_chat, "talk": corpus.talk_chat, "copy": corpus.copy_chat, "choice": corpus.choice_chat}


# ---- data --------------------------------------------------------------------------------------------------------------


def pack(docs, rng):
    """[(ids, weights)] -> ids, weights, doc numbers, each [rows, ROW]. A row starts with a document; the rest is filled
    with documents that fit, looked for among a few dozen, and the remainder stays empty (weight 0)."""
    rng.shuffle(docs)
    docs = [(i[:ROW], w[:ROW]) for i, w in docs]
    rows_i, rows_w, rows_d, pending = [], [], [], []
    at = 0
    while at < len(docs) or pending:
        while len(pending) < 64 and at < len(docs):
            pending.append(docs[at])
            at += 1
        i, w, d, n = [], [], [], 0
        while True:
            fit = [j for j, x in enumerate(pending) if len(x[0]) <= ROW - len(i)]
            if not fit:
                break
            j = fit[0] if ROW - len(i) > 200 else max(fit, key=lambda j: len(pending[j][0]))
            x = pending.pop(j)
            i += x[0]
            w += x[1]
            d += [n] * len(x[0])
            n += 1
        gap = ROW - len(i)
        rows_i.append(i + [0] * gap)
        rows_w.append(w + [0] * gap)
        rows_d.append(d + [n] * gap)
    return np.array(rows_i, np.int16), np.array(rows_w, np.uint8), np.array(rows_d, np.uint8)


def step_data(args):
    rng = random.Random(args.seed)
    books = {k: [p for p in v if not corpus.book_held_out(p)] for k, v in corpus.books(args).items()}
    if os.path.exists(f"{args.work}/tokenizer.json"):
        tok = Tokenizer.from_file(f"{args.work}/tokenizer.json")
    else:
        sample = [stories.text(rng) for _ in range(12000)]
        sample += [t for _ in range(2500) for _, t, _ in corpus.skill_chat(rng)]
        tok = vocab.train(
            sample + [p for v in books.values() for p in rng.sample(v, min(len(v), 1500))], Config.vocab
        )
        tok.save(f"{args.work}/tokenizer.json")
    coder = vocab.Coder(tok)
    parts, total = [], {}
    for share, want in STAGES:
        docs = []
        for kind, part in want.items():
            goal, have, epoch = share * part * args.tokens, 0, []
            while have < goal:
                if kind == "book":
                    if not epoch:
                        epoch = [p for v in books.values() for p in v]
                        rng.shuffle(epoch)
                    new, epoch = coder.texts(epoch[:500]), epoch[500:]
                elif kind in TEXTS:
                    new = coder.texts([TEXTS[kind](rng) for _ in range(1000)])
                else:
                    new = coder.chats([CHATS[kind](rng) for _ in range(500)])
                docs += new
                have += sum(len(i) for i, _ in new)
            total[kind] = total.get(kind, 0) + have
        parts.append(pack(docs, rng))
    ids, ws, ds = (np.concatenate(x) for x in zip(*parts))
    np.savez(f"{args.work}/data.npz", ids=ids, weights=ws, docs=ds)
    print("tokens", total, "rows", len(ids), "learned", round(float((ws > 0).mean()), 3), flush=True)


# ---- training ----------------------------------------------------------------------------------------------------------


def rate(t, warm=0.015, decay=0.35):
    """Share of the full learning rate when the share t of the time is over."""
    return min(1.0, t / warm, max(0.0, (1 - t) / decay))


class Tickets:
    """Hands out the numbers below a limit, once each, to whoever asks first."""

    def __init__(self):
        self.next = mp.Value("q", 0)

    def take(self, limit):
        with self.next.get_lock():
            if self.next.value >= limit:
                return None
            self.next.value += 1
            return self.next.value - 1


def worker(rank, args, net, opt, grads, data, shared):
    """One single-threaded process. Workers share weights and optimiser; each takes the next small batch, and later the next
    part of the optimiser's work, when it is free, so that a core lost to other programs delays nobody for long.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(-4, 0)  # M_MMAP_MAX: keep freed memory, page faults cost as much as the arithmetic
    libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD
    torch.set_num_threads(1)
    ids, ws, ds = data
    barrier, batches, units, value = shared["barrier"], shared["batches"], shared["units"], shared["value"]
    for name, p in net.named_parameters():
        p.grad = grads[rank][name]
    per_step = args.rows // args.micro
    first = step = int(value[0])
    budget, saved, logged, start = args.minutes * 60, time.time(), time.time(), time.time()
    spent0, sums = value[1].item(), []
    while value[1] < budget:
        at = int(value[3]) % (len(ids) - args.rows + 1)
        w_all = torch.from_numpy(ws[at : at + args.rows].astype(np.float32)) * 0.5
        w_all[:, :-1] = w_all[:, 1:] * torch.from_numpy(
            (ds[at : at + args.rows, 1:] == ds[at : at + args.rows, :-1]).astype(np.float32)
        )
        w_all[:, -1] = 0
        total = w_all.sum()
        for p in net.parameters():
            p.grad.zero_()
        value[4 + rank] = 0
        while (ticket := batches.take((step - first + 1) * per_step)) is not None:
            i = at + (ticket % per_step) * args.micro
            x = torch.from_numpy(ids[i : i + args.micro].astype(np.int64))
            d = torch.from_numpy(ds[i : i + args.micro].astype(np.int64))
            ce, aux, share = net.loss(
                x, d, torch.roll(x, -1, 1), w_all[i - at : i - at + args.micro], total, torch.bfloat16
            )
            (ce + 0.01 / per_step * aux).backward()
            value[4 + rank] += ce.item()
        if rank == 0:
            value[2] = rate((value[1].item() + 1) / budget)
        barrier.wait()
        f = value[2].item()
        keep = min(0.995, 1 - 1 / (step + 1)) if f >= 1 else 0.98
        while (ticket := units.take((step - first + 1) * len(opt.units))) is not None:
            opt.update(ticket % len(opt.units), grads, args.lr * f, f, step + 1, keep)
        if rank == 0:
            value[3] += args.rows
            value[1] = spent0 + time.time() - start
            sums.append(value[4:].sum().item())
        barrier.wait()
        step += 1
        if rank == 0 and (time.time() - logged > 30 or step - first <= 2):
            dt = (time.time() - logged) / len(sums)
            print(
                f"step {step} spent {value[1].item():.0f}s loss {np.mean(sums):.4f} aux {aux.item():.3f} rate {f:.3f} least expert "
                f"{share.min().item():.3f} most {share.max().item():.3f} tokens/s {args.rows * ROW / dt:.0f}",
                flush=True,
            )
            logged, sums = time.time(), []
        if rank == 0 and time.time() - saved > 180:
            save_state(args, net, opt, step, value)
            saved = time.time()
        if rank == 0:
            value[0] = step
        barrier.wait()


def save_state(args, net, opt, step, value):
    path = f"{args.work}/state.pt"
    torch.save(
        {
            "net": net.state_dict(),
            "opt": opt.state,
            "step": step,
            "spent": value[1].item(),
            "row": int(value[3]),
        },
        path + ".new",
    )
    os.replace(path + ".new", path)


def step_train(args):
    torch.set_num_threads(1)
    torch.manual_seed(1)
    z = np.load(f"{args.work}/data.npz")
    data = z["ids"], z["weights"], z["docs"]
    net = Net().share_memory()
    opt = optim.Optimiser(net)
    value = torch.zeros(
        4 + args.workers, dtype=torch.float64
    ).share_memory_()  # step, seconds, rate, row, loss of each
    if os.path.exists(f"{args.work}/state.pt"):
        s = torch.load(f"{args.work}/state.pt")
        net.load_state_dict(s["net"])
        for name, tensors in s["opt"].items():
            for a, b in zip(opt.state[name], tensors):
                a.copy_(b)
        value[0], value[1], value[3] = s["step"], s["spent"], s.get("row", s["step"] * args.rows)
        print("continued at step", s["step"], flush=True)
    grads = [
        {k: torch.zeros_like(p).detach().share_memory_() for k, p in net.named_parameters()}
        for _ in range(args.workers)
    ]
    ctx = mp.get_context("fork")
    shared = {"barrier": ctx.Barrier(args.workers), "batches": Tickets(), "units": Tickets(), "value": value}
    jobs = [
        ctx.Process(target=worker, args=(r, args, net, opt, grads, data, shared)) for r in range(args.workers)
    ]
    for j in jobs:
        j.start()
    for j in jobs:
        j.join()
    if any(j.exitcode for j in jobs):
        raise SystemExit("a worker failed")
    save_state(args, net, opt, int(value[0]), value)


# ---- export ------------------------------------------------------------------------------------------------------------


def hf_config(c, ids):
    return {
        "architectures": ["Llama4ForCausalLM"],
        "model_type": "llama4_text",
        "torch_dtype": "bfloat16",
        "vocab_size": c.vocab,
        "hidden_size": c.d_model,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "num_key_value_heads": c.n_kv_head,
        "head_dim": c.d_head,
        "intermediate_size": c.d_ff,
        "intermediate_size_mlp": 2 * c.d_ff,
        "num_local_experts": c.n_expert,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 1,
        "moe_layers": list(range(c.n_layer)),
        "no_rope_layers": [int((i + 1) % c.nope_period != 0) for i in range(c.n_layer)],
        "use_qk_norm": True,
        "attention_chunk_size": c.chunk,
        "attn_temperature_tuning": True,
        "floor_scale": int(c.floor_scale),
        "attn_scale": c.attn_scale,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "rms_norm_eps": c.eps,
        "rope_theta": c.rope_theta,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": c.rope_factor,
            "low_freq_factor": c.rope_low,
            "high_freq_factor": c.rope_high,
            "original_max_position_embeddings": c.rope_old,
        },
        "max_position_embeddings": c.max_pos,
        "initializer_range": 0.02,
        "tie_word_embeddings": False,
        "use_cache": True,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.01,
        "router_jitter_noise": 0.0,
        "bos_token_id": ids["begin_of_text"],
        "eos_token_id": [ids["end_of_text"], ids["eom"], ids["eot"]],
        "pad_token_id": ids["finetune_right_pad"],
    }


LEAVES = {
    "norm_in": "input_layernorm.weight",
    "norm_post": "post_attention_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "o": "self_attn.o_proj.weight",
    "router": "feed_forward.router.weight",
    "gate_up": "feed_forward.experts.gate_up_proj",
    "down": "feed_forward.experts.down_proj",
    "s_gate": "feed_forward.shared_expert.gate_proj.weight",
    "s_up": "feed_forward.shared_expert.up_proj.weight",
    "s_down": "feed_forward.shared_expert.down_proj.weight",
}


def hf_name(name):
    top = {"embed": "model.embed_tokens.weight", "norm": "model.norm.weight", "head": "lm_head.weight"}
    if name in top:
        return top[name]
    _, layer, leaf = name.split(".")
    return f"model.layers.{layer}.{LEAVES[leaf]}"


def step_export(args):
    tok = Tokenizer.from_file(f"{args.work}/tokenizer.json")
    folder = f"{args.out}/model"
    os.makedirs(folder, exist_ok=True)
    s = torch.load(f"{args.work}/state.pt")
    save_file(
        {hf_name(k): v[-1].bfloat16().contiguous() for k, v in s["opt"].items()},
        f"{folder}/model.safetensors",
        {"format": "pt"},
    )
    with open(f"{folder}/config.json", "w") as f:
        json.dump(hf_config(Config, vocab.Coder(tok).id), f, indent=2)
        f.write("\n")
    vocab.write(tok, folder, Config.max_pos)
    print("exported step", s["step"], "after", round(s["spent"] / 60, 1), "minutes")


def step_heldout(args):
    folder = f"{args.out}/heldout"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/text.jsonl", "w") as f:
        for source, text in corpus.held_out_text(args):
            f.write(json.dumps({"source": source, "text": text}, ensure_ascii=False) + "\n")
    with open(f"{folder}/tasks.jsonl", "w") as f:
        for task, q, a in corpus.held_out_tasks():
            f.write(json.dumps({"task": task, "question": q, "answer": a}, ensure_ascii=False) + "\n")


# ---- evaluation of the exported files ----------------------------------------------------------------------------------


def load_export(folder):
    """The text part of a checkpoint, with or without a vision tower beside it."""
    net = Net()
    files = load_file(f"{folder}/model.safetensors")
    pre = "language_model." if "vision_model.class_embedding" in files else ""
    net.load_state_dict({k: files[pre + hf_name(k)].float() for k in net.state_dict()})
    return net.eval(), Tokenizer.from_file(f"{folder}/tokenizer.json")


@torch.no_grad()
def run_rows(net, seqs, batch=16):
    """-> float32 logits of each sequence; padded on the right, so nothing before the padding changes."""
    order = sorted(range(len(seqs)), key=lambda i: len(seqs[i]))
    for at in range(0, len(order), batch):
        part = order[at : at + batch]
        n = max(len(seqs[i]) for i in part)
        n = -(-n // net.c.chunk) * net.c.chunk
        x, d = torch.zeros(len(part), n, dtype=torch.long), torch.ones(len(part), n, dtype=torch.long)
        for j, i in enumerate(part):
            x[j, : len(seqs[i])] = torch.tensor(seqs[i])
            d[j, : len(seqs[i])] = 0
        lg = net.logits(net.hidden(x, d, torch.float32)[0], torch.float32)
        for j, i in enumerate(part):
            yield i, lg[j, : len(seqs[i])]


def evaluate(net, coder, out):
    """Perplexity by source; accuracy by task. An answer is right when greedy decoding gives it and then ends the turn, which
    is the case exactly when the largest logit is right at each of its tokens, given the tokens before."""
    rows = [json.loads(s) for s in open(f"{out}/heldout/text.jsonl")]
    seqs = [i for i, _ in coder.texts([r["text"] for r in rows])]
    stat = {}
    for i, lg in run_rows(net, seqs):
        nll = torch.nn.functional.cross_entropy(lg[:-1], torch.tensor(seqs[i][1:]), reduction="sum").item()
        s = stat.setdefault(rows[i]["source"], [0.0, 0, 0])
        s[0], s[1], s[2] = s[0] + nll, s[1] + len(seqs[i]) - 1, s[2] + len(rows[i]["text"].encode())
    text = {
        k: {"perplexity": float(np.exp(n / t)), "bits_per_byte": n / np.log(2) / b, "tokens": t}
        for k, (n, t, b) in stat.items()
    }
    rows = [json.loads(s) for s in open(f"{out}/heldout/tasks.jsonl")]
    seqs = [
        i for i, _ in coder.chats([[("user", r["question"], 0), ("assistant", r["answer"], 2)] for r in rows])
    ]
    n_ans = [
        sum(1 for w in ws if w)
        for _, ws in coder.chats([[("user", r["question"], 0), ("assistant", r["answer"], 2)] for r in rows])
    ]
    acc = {}
    for i, lg in run_rows(net, seqs):
        k = n_ans[i]
        ok = (lg[-k - 1 : -1].argmax(-1) == torch.tensor(seqs[i][-k:])).all().item()
        s = acc.setdefault(rows[i]["task"], [0, 0])
        s[0], s[1] = s[0] + ok, s[1] + 1
    return text, {k: acc[k] for k in tasks.TASKS}


@torch.no_grad()
def generate(net, coder, ids, limit=160, temperature=0.0, seed=0):
    """Plain loop without a cache; ends at eot or end_of_text."""
    g, ids, start = torch.Generator().manual_seed(seed), list(ids), len(ids)
    stop = (coder.id["eot"], coder.id["end_of_text"], coder.id["eom"])
    while len(ids) - start < limit:
        ((_, lg),) = run_rows(net, [ids])
        if temperature:
            p, order = (lg[-1] / temperature).softmax(-1).sort(descending=True)
            p[p.cumsum(0) - p > 0.9] = 0
            t = order[torch.multinomial(p, 1, generator=g)].item()
        else:
            t = lg[-1].argmax().item()
        if t in stop:
            break
        ids.append(t)
    return coder.tok.decode(ids[start:])


def step_eval(args):
    torch.set_num_threads(args.threads)
    net, tok = load_export(f"{args.out}/model")
    coder = vocab.Coder(tok)
    text, acc = evaluate(net, coder, args.out)
    for k, v in text.items():
        print(
            f"text {k:12} perplexity {v['perplexity']:.2f} bits/byte {v['bits_per_byte']:.3f} ({v['tokens']} tokens)"
        )
    for k, (good, n) in acc.items():
        print(
            f"task {k:15} {good}/{n} = {good / n:.2f}"
            + (f" (chance {tasks.CHANCE[k]:.2f})" if k in tasks.CHANCE else "")
        )
    print("task mean", round(float(np.mean([a / b for a, b in acc.values()])), 3))
    for i, q in enumerate(
        [
            "Hello!",
            "What is 27 + 45?",
            "Sort these numbers: 41, 7, 88, 23",
            "Tell me a story about a fox.",
            "Tell me a story about a girl named Mia.",
            "What is a hammer?",
            "Tell me something about a bee.",
        ]
    ):
        ids = coder.chats([[("user", q, 0), ("assistant", "", 0)]])[0][0][:-1]
        print(f"--- {q}\n{generate(net, coder, ids, temperature=0.6, seed=i)}", flush=True)
    for start in ("Once upon a time", "It is a truth", "And the LORD said"):
        ids = coder.texts([start])[0][0][:-1]
        print(f"--- [text] {start}{generate(net, coder, ids, 100, 0.6, 1)}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("steps", nargs="*", help="data train export heldout eval")
    p.add_argument("--work", required=True, help="folder for data and training state")
    p.add_argument("--out", default=HERE)
    p.add_argument("--bible")
    p.add_argument("--austen")
    p.add_argument("--shakespeare")
    p.add_argument("--minutes", type=float, default=80)
    p.add_argument("--tokens", type=float, default=24e6, help="size of the data")
    p.add_argument("--seed", type=int, default=5, help="of the data")
    p.add_argument("--rows", type=int, default=16, help=f"rows of {ROW} tokens in a batch")
    p.add_argument("--lr", type=float, default=0.02, help="of Muon")
    p.add_argument("--micro", type=int, default=2, help="rows a worker takes at once")
    p.add_argument("--workers", type=int, default=2, help="training processes, one core each")
    p.add_argument("--threads", type=int, default=2, help="of the evaluation")
    args = p.parse_args()
    os.makedirs(args.work, exist_ok=True)
    for s in args.steps or ["data", "train", "export", "heldout", "eval"]:
        globals()["step_" + s](args)


if __name__ == "__main__":
    main()
