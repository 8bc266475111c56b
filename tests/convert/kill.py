#!/usr/bin/env python3
"""Kills a conversion at random points and goes on from what it left: the end must be the bytes of one that nobody touched.

    kill.py CORRAL FOLDER [KILLS] [OPTION...]

Options after KILLS go to `corral convert` (--delete-source is tried on a copy of the checkpoint for every round). Only
Python's own library is used.
"""
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import time

D, F, LAYERS, EXPERTS, VOCAB = 128, 256, 3, 24, 512


def weights(rng, n):
    """n BF16 values of ordinary size."""
    data = bytearray(rng.randbytes(2 * n))
    high = bytes((b & 0x80) | (0x3c + (b & 3)) for b in range(256))
    data[1::2] = data[1::2].translate(high)
    return bytes(data)


def make(folder):
    rng = random.Random(7)
    shapes = {"model.embed_tokens.weight": [VOCAB, D], "lm_head.weight": [VOCAB, D], "model.norm.weight": [D]}
    for i in range(LAYERS):
        p = "model.layers.%d." % i
        shapes.update({p + "input_layernorm.weight": [D], p + "post_attention_layernorm.weight": [D],
                       p + "self_attn.q_proj.weight": [D, D], p + "self_attn.k_proj.weight": [D, D],
                       p + "self_attn.v_proj.weight": [D, D], p + "self_attn.o_proj.weight": [D, D],
                       p + "feed_forward.router.weight": [EXPERTS, D],
                       p + "feed_forward.experts.gate_up_proj": [EXPERTS, D, 2 * F],
                       p + "feed_forward.experts.down_proj": [EXPERTS, F, D],
                       p + "feed_forward.shared_expert.gate_proj.weight": [F, D],
                       p + "feed_forward.shared_expert.up_proj.weight": [F, D],
                       p + "feed_forward.shared_expert.down_proj.weight": [D, F]})
    os.makedirs(folder)
    header, at, blobs = {}, 0, []
    for name, shape in shapes.items():
        n = 1
        for s in shape:
            n *= s
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + 2 * n]}
        at += 2 * n
        blobs.append(weights(rng, n))
    text = json.dumps(header).encode()
    with open(folder + "/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    with open(folder + "/config.json", "w") as f:
        json.dump({"architectures": ["Llama4ForCausalLM"], "model_type": "llama4_text", "hidden_size": D,
                   "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": D // 4, "num_hidden_layers": LAYERS,
                   "num_local_experts": EXPERTS, "intermediate_size": F, "intermediate_size_mlp": F,
                   "interleave_moe_layer_step": 1, "vocab_size": VOCAB, "use_qk_norm": False,
                   "attention_chunk_size": 8192, "bos_token_id": 1, "eos_token_id": 2}, f)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def main():
    corral, top = os.path.abspath(sys.argv[1]), sys.argv[2]
    kills = int(sys.argv[3]) if len(sys.argv) > 3 else 50
    options = sys.argv[4:]
    consume = "--delete-source" in options
    rng = random.Random(11)
    os.chdir(top)
    make("source")
    base = [corral, "convert", "--jobs", "2", "--quiet", "--json"]
    start = time.time()
    subprocess.run(base + ["source", "whole.crl"], check=True, stdout=subprocess.DEVNULL)
    full = time.time() - start
    want = read("whole.crl")
    killed = finished = resumed = 0
    source = "source"
    while killed < kills:
        if consume and source == "source":
            shutil.copytree("source", "copy")
            source = "copy"
        run = subprocess.Popen(base + options + [source, "out.crl", "--resume"], stdout=subprocess.PIPE)
        try:
            # most kills fall into the run, some before its first byte, some after its last
            out, _ = run.communicate(timeout=rng.uniform(0, 1.1 * full))
        except subprocess.TimeoutExpired:
            run.kill()
            run.communicate()
            killed += 1
            if os.path.exists("out.crl") and read("out.crl") != want:
                sys.exit("a file under the final name that is not whole")
            if not os.path.exists("out.crl"):
                continue
        else:
            if run.returncode:
                sys.exit("exit %d" % run.returncode)
            resumed += json.loads(out)["weights_resumed"] > 0
        finished += 1
        if read("out.crl") != want:
            sys.exit("other bytes after %d kills" % killed)
        os.remove("out.crl")
        if consume:
            if run.returncode == 0 and os.path.exists("copy/model.safetensors"):
                sys.exit("the source is still there")
            shutil.rmtree("copy")
            source = "source"
            for left in ("out.crl.partial", "out.crl.journal.partial"):
                if os.path.exists(left):
                    os.remove(left)
    # one that is killed as soon as its journal has records, so that the last has work to take over
    if consume and source == "source":
        shutil.copytree("source", "copy")
        source = "copy"
    for _ in range(20):
        run = subprocess.Popen(base + options + [source, "out.crl", "--resume"], stdout=subprocess.DEVNULL)
        journal = "out.crl.journal.partial"
        while run.poll() is None and (not os.path.exists(journal) or os.path.getsize(journal) < 200):
            time.sleep(0.0005)
        run.kill()
        run.wait()
        if not os.path.exists("out.crl"):
            break
        if read("out.crl") != want:
            sys.exit("other bytes")
        os.remove("out.crl")
        if consume:
            shutil.rmtree("copy", ignore_errors=True)
            shutil.copytree("source", "copy")
            source = "copy"
            for left in ("out.crl.partial", "out.crl.journal.partial"):
                if os.path.exists(left):
                    os.remove(left)
    run = subprocess.run(base + options + [source, "out.crl", "--resume"], stdout=subprocess.PIPE, check=True)
    resumed += json.loads(run.stdout)["weights_resumed"] > 0
    if read("out.crl") != want:
        sys.exit("other bytes at the end")
    left = [f for f in os.listdir(".") if "partial" in f]
    print("%d kills, %d conversions came to their end, %d of them with weights of an earlier run%s" %
          (killed, finished + 1, resumed, "; left: %s" % left if left else ""))
    if not resumed or left:
        sys.exit("nothing was ever taken over" if not resumed else "files are left")


if __name__ == "__main__":
    main()
