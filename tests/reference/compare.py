#!/usr/bin/env python3
"""compare.py - corral against transformers, live: fresh random checkpoints of every golden configuration.

    compare.py [--corral PROGRAM] [--seeds N] [--random N] [--only ID...] [--keep DIR]

For each configuration of tests/golden/make_model.py and each seed, a checkpoint is written that no file
of the tree holds (and where its naming is transformers' own, a second one by save_pretrained), then

    corral convert CHECKPOINT out.crl --recipe bf16 --quiet
    corral logits out.crl --ids-file ids.txt --output l.npy
    corral eval perplexity out.crl --text ids.jsonl --json

and the logits of all positions are compared with transformers in float32: relative error (norm of the
difference over norm) at most 1e-4, and the same top token wherever the reference's margin exceeds 1e-4 of
the position's largest logit. The mean log likelihood of the ids may differ by 1e-4 nats. With a vocabulary
that fits the small golden tokenizer the same configuration is asked multiple-choice questions,

    corral eval choice out.crl --data choice.jsonl --by letter|option --prompt text|chat --json --items

and the log likelihood of every option may differ by 1e-4 nats (of all its tokens together). --random adds configurations with drawn shapes. PROGRAM defaults to $CORRAL,
then ./corral.

Exit code: 0 all agree, 3 a difference, 1 a command failed, 77 the Python packages are missing.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "golden"))
sys.dont_write_bytecode = True

try:
    import numpy as np
    import torch
    import transformers
    from tokenizers import Tokenizer
    from transformers import Llama4ForConditionalGeneration
    import make_model
    import ref
except ImportError as e:
    print(f"skipped: {e}", file=sys.stderr)
    sys.exit(77)

TOLERANCE = 1e-4


def random_case(rng):
    """A configuration of drawn shapes; every branch has a fair chance."""
    pick = lambda *a: a[int(rng.integers(len(a)))]
    chance = lambda p: bool(rng.random() < p)
    kv = pick(1, 2, 3)
    n_layer = int(rng.integers(2, 8))
    fields = dict(
        make_model.SMALL, hidden_size=int(rng.integers(8, 80)), head_dim=2 * int(rng.integers(2, 13)), num_key_value_heads=kv,
        num_attention_heads=kv * int(rng.integers(1, 5)), num_hidden_layers=n_layer, num_local_experts=int(rng.integers(2, 9)),
        num_experts_per_tok=pick(1, 1, 2), intermediate_size=int(rng.integers(8, 70)),
        intermediate_size_mlp=int(rng.integers(8, 90)), interleave_moe_layer_step=pick(1, 1, 2, 3),
        no_rope_layer_interval=pick(2, 3, 4, 5), use_qk_norm=chance(0.5), theta=float(pick(100, 10000, 500000)),
        attention_chunk_size=pick(1, 3, 8, 16, 1000, None), attn_temperature_tuning=chance(0.7), floor_scale=pick(1, 3, 4, 8192),
        attn_scale=pick(0.1, 0.5), vocab_size=int(rng.integers(64, 200)), rms_norm_eps=pick(1e-6, 1e-5, 1e-3),
        attention_bias=chance(0.3), tie_word_embeddings=chance(0.3),
        scaling=pick(None, make_model.LLAMA3, make_model.OLD_ROPE))
    if chance(0.3):
        fields["moe_layers"] = sorted(int(i) for i in rng.permutation(n_layer)[:rng.integers(0, n_layer + 1)])
    if chance(0.3):
        fields["no_rope_layers"] = [int(chance(0.6)) for _ in range(n_layer)]
    layout = pick("fused", "fused", "unfused", "plural", "stacked", "sharded", "fp8")
    return dict(fields=fields, naming=pick("multi", "text", "model.language_model"), rope=pick("v4", "v5", "old"),
                layout=layout, prompts=[("", int(rng.integers(1, 70)), 0)])


def corral(program, *arguments):
    r = subprocess.run([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if r.returncode:
        raise RuntimeError(f"{program} {' '.join(arguments)}: exit code {r.returncode}\n{r.stdout}")
    return r.stdout


def compare(mine, wanted):
    """relative error, number of top tokens that differ though the margin is clear"""
    if mine.shape != wanted.shape or not np.isfinite(mine).all():
        return float("inf"), len(wanted)
    wrong = 0
    for a, b in zip(mine, wanted):
        second, first = np.partition(b, -2)[-2:]
        wrong += bool(first - second > TOLERANCE * np.abs(b).max() and a.argmax() != b.argmax())
    return ref.relative(mine, wanted), wrong


def save_by_library(case, model, checkpoint, folder):
    """The same model as transformers itself writes it in BF16, in several shards where it is large enough."""
    warnings.simplefilter("ignore")              # of casting the complex table, which is not saved
    if case.get("vision") and "tuning_spelled" not in case["fields"]:       # the integer is refused on loading
        model = Llama4ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.bfloat16)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="150KB")


def compare_likelihood(program, packed, folder, ids, logits):
    """how far the mean log likelihood of the ids is from that of the reference's logits, nats per token"""
    if len(ids) < 2:
        return 0.0
    source = os.path.join(folder, "ids.jsonl")
    with open(source, "w") as f:
        f.write(json.dumps({"ids": [int(i) for i in ids]}) + "\n")
    mine = json.loads(corral(program, "eval", "perplexity", packed, "--text", source, "--json", "--quiet"))
    x = logits[:-1].astype(np.float64)
    top = x.max(axis=1)
    nll = top + np.log(np.exp(x - top[:, None]).sum(axis=1)) - x[np.arange(len(x)), ids[1:]]
    return abs(mine["metrics"]["nll"]["value"] - nll.mean())


def run_checkpoint(program, checkpoint, folder, label, runs):
    """Prints a line per prompt; returns the number of differences."""
    packed, bad = os.path.join(folder, "out.crl"), 0
    corral(program, "convert", checkpoint, packed, "--recipe", "bf16", "--quiet")
    for (suffix, _, _), (ids, logits, *_rest) in runs:
        out, source = os.path.join(folder, "l.npy"), os.path.join(folder, "ids.txt")
        with open(source, "w") as f:
            f.write(" ".join(map(str, ids)) + "\n")
        corral(program, "logits", packed, "--ids-file", source, "--output", out)
        error, wrong = compare(np.load(out), logits)
        likelihood = compare_likelihood(program, packed, folder, ids, logits)
        verdict = "ok" if error <= TOLERANCE and not wrong and likelihood <= TOLERANCE else "DIFFERS"
        bad += verdict != "ok"
        print(f"{label + suffix:16s} {len(ids):3d} tokens  error {error:.2e}  top tokens wrong {wrong}  "
              f"likelihood off by {likelihood:.2e}  {verdict}", flush=True)
    os.remove(packed)
    return bad


QUESTIONS = [
    dict(id="short", question="What is 2 + 2?", choices=["4", "the number five", "no"], answer=0),
    dict(id="long", question="Größe, 中文? It was the best of times, it was the worst of times.", answer="B",
         choices=["It was the age of wisdom, it was the age of foolishness.", "no <|eot|>", "a", "b"]),
    dict(id="context", context="A passage\nof two lines.", question="True?", choices=["true", "false"], answer="false"),
]


def choice_prompt(tok, q, by, chat):
    """the ids that corral's documentation promises for a question, and the replies whose likelihood is asked"""
    plain = lambda text: tok[1].encode(text, add_special_tokens=False).ids
    special = tok[0].token_to_id
    head = lambda role: [special("<|header_start|>")] + plain(role) + [special("<|header_end|>")]
    text = q["question"]
    if by == "option" and not chat:
        text = "Question: " + text
    text = (q["context"] + "\n\n" if "context" in q else "") + text
    if by == "letter":
        text += "\n" + "\n".join(f"{chr(65 + i)}. {c}" for i, c in enumerate(q["choices"])) + "\nAnswer:"
    elif not chat:
        text += "\nAnswer:"
    ids = [special("<|begin_of_text|>")]
    if chat:
        ids += head("user") + plain("\n\n" + text) + [special("<|eot|>")] + head("assistant") + plain("\n\n")
    else:
        ids += plain(text)
    replies = [chr(65 + i) if by == "letter" else c for i, c in enumerate(q["choices"])]
    return ids, [plain(("" if chat else " ") + r) for r in replies]


def reference_likelihood(model, ids, reply):
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids + reply]), use_cache=False).logits[0, len(ids) - 1:-1].double()
    return torch.log_softmax(logits, -1)[torch.arange(len(reply)), torch.tensor(reply)].sum().item()


def run_choice(program, folder, name, case, seed):
    """Likelihoods of options; 1 if any is too far off."""
    tokenizer = os.path.join(HERE, "..", "golden", "tokenizer", "small", "tokenizer.json")
    whole = Tokenizer.from_file(tokenizer)
    # without the control tokens, whose names in a text would be taken for them
    tok = whole, Tokenizer.from_str(json.dumps({**json.loads(whole.to_str()), "added_tokens": []}))
    case = dict(case, fields=dict(case["fields"], vocab_size=whole.get_vocab_size()))
    checkpoint, packed = os.path.join(folder, "choice"), os.path.join(folder, "choice.crl")
    model = make_model.build_case(checkpoint, name, case, {}, seed)[1]
    shutil.copy(tokenizer, checkpoint)
    corral(program, "convert", checkpoint, packed, "--recipe", "bf16", "--quiet")
    data, n, worst = os.path.join(folder, "choice.jsonl"), 0, 0.0
    with open(data, "w") as f:
        f.writelines(json.dumps(q) + "\n" for q in QUESTIONS)
    for by in ("letter", "option"):
        for prompt in ("text", "chat"):
            doc = json.loads(corral(program, "eval", "choice", packed, "--data", data, "--by", by, "--prompt", prompt,
                                    "--json", "--items", "--quiet"))
            for q, item in zip(QUESTIONS, doc["items"]):
                ids, replies = choice_prompt(tok, q, by, prompt == "chat")
                mine = item["detail"]["log_likelihood"]
                assert len(mine) == len(replies)
                for x, reply in zip(mine, replies):
                    worst, n = max(worst, abs(x - reference_likelihood(model, ids, reply))), n + 1
    verdict = "ok" if n and worst <= TOLERANCE else "DIFFERS"
    print(f"{name + '.' + str(seed) + ' choice':16s} {n:3d} options  likelihood off by {worst:.2e}  {verdict}", flush=True)
    os.remove(packed)
    return verdict != "ok"


def run_case(program, folder, name, case, seed):
    case = {k: v for k, v in case.items() if k not in ("weights", "inside")}
    checkpoint, saved = os.path.join(folder, "checkpoint"), os.path.join(folder, "saved")
    runs, model = make_model.build_case(checkpoint, name, case, {}, seed)
    bad = run_checkpoint(program, checkpoint, folder, f"{name}.{seed}", runs)
    if case.get("layout", "fused") == "fused":
        save_by_library(case, model, checkpoint, saved)
        bad += run_checkpoint(program, saved, folder, f"{name}.{seed} saved", runs)
    return bad + run_choice(program, folder, name, case, seed)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--corral", default=os.environ.get("CORRAL", "./corral"))
    ap.add_argument("--seeds", type=int, default=1)
    ap.add_argument("--random", type=int, default=20)
    ap.add_argument("--only", nargs="*")
    ap.add_argument("--keep", help="leave checkpoints and outputs in this folder")
    args = ap.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    top = args.keep or tempfile.mkdtemp()
    jobs = [(n, c, s) for s in range(1, args.seeds + 1) for n, c in make_model.CASES.items()]
    jobs += [(f"random{i}", random_case(np.random.Generator(np.random.PCG64(1000 + i))), 0) for i in range(args.random)]
    jobs = [j for j in jobs if not args.only or j[0] in args.only]
    bad = failed = 0
    for name, case, seed in jobs:
        folder = os.path.join(top, f"{name}.{seed}")
        os.makedirs(folder, exist_ok=True)
        try:
            bad += run_case(args.corral, folder, name, case, seed)
        except (RuntimeError, OSError, ValueError) as e:
            failed += 1
            print(f"{name}.{seed} failed: {e}", flush=True)
        if not args.keep:
            shutil.rmtree(folder)
    if not args.keep:
        shutil.rmtree(top)
    print(f"{len(jobs)} configurations, {bad} comparisons differ, {failed} configurations failed")
    return 1 if failed else 3 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
