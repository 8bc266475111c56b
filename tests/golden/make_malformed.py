#!/usr/bin/env python3
"""make_malformed.py - malformed/: files that must load and files that must not.

Each folder has a LIST: `name ok|bad reason`. --check compares with the committed files; --safetensors asks
the safetensors package about its files and prints where it thinks otherwise, and tokenizers about good ones.
"""
import argparse
import base64
import copy
import json
import os
import shutil
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


# --- safetensors -------------------------------------------------------------------------------------------

def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def pack(header, data=b"", length=None):
    """header: dict, str or bytes; length overrides the stored one."""
    if isinstance(header, dict):
        header = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
    if isinstance(header, str):
        header = header.encode()
    n = len(header) if length is None else length
    return n.to_bytes(8, "little") + header + data


def padded(header, data, to=8):
    text = json.dumps(header, separators=(",", ":")).encode()
    return pack(text + b" " * (-len(text) % to), data)


A = {"a": entry("BF16", [2, 3], 0, 12)}
A12 = bytes(range(12))


def one(**change):
    """The valid file with fields of its only tensor replaced; a value of None removes the field."""
    t = {k: v for k, v in {**A["a"], **change}.items() if v is not None}
    return pack({"a": t}, A12)


def with_length(text, total, fill=" "):
    return text + fill * (total - len(text))


def safetensors_files():
    two = {"a": entry("BF16", [2], 0, 4), "b": entry("F32", [2], 4, 12)}
    text = json.dumps(A, separators=(",", ":"))
    sizes = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4,
             "F32": 4, "F64": 8, "I64": 8, "U64": 8}
    every, at = {}, 0
    for name, size in sizes.items():
        every["t_" + name.lower()] = entry(name, [3], at, at + 3 * size)
        at += 3 * size
    many = {f"layer.{i}.w": entry("F32", [1], 4 * i, 4 * i + 4) for i in reversed(range(300))}
    odd = text if len(text) % 2 else text + " "

    yield "plain", "ok", "one BF16 tensor", padded(A, A12)
    yield "unpadded", "ok", "header length is no multiple of 8", pack(with_length(text, 8 * (len(text) // 8 + 1) + 2), A12)
    yield "unaligned", "ok", "data begins at an odd offset", pack(odd, A12)
    yield "padded", "ok", "a thousand blanks after the header", pack(with_length(text, 1000 + len(text)), A12)
    yield "metadata", "ok", "text metadata", padded({"__metadata__": {"format": "pt", "": "x", "é": "\n"}, **A}, A12)
    yield "metadata-only", "ok", "metadata and no tensor", padded({"__metadata__": {"format": "pt"}}, b"")
    yield "no-tensors", "ok", "empty object", padded({}, b"")
    yield "scalar", "ok", "shape []", padded({"s": entry("F32", [], 0, 4)}, bytes(4))
    yield "zero-size", "ok", "shape [0] and [3,0,2]", padded({"z": entry("F32", [0], 0, 0), "y": entry("BF16", [3, 0, 2], 0, 0)}, b"")
    yield "zero-size-between", "ok", "a zero-size tensor between two others", padded(
        {**two, "z": entry("F32", [0, 7], 4, 4)}, bytes(12))
    yield "key-order", "ok", "keys in another order than the data", padded({"b": two["b"], "a": two["a"]}, bytes(12))
    yield "all-dtypes", "ok", "every classic dtype", padded(every, bytes(at))
    yield "long-name", "ok", "a name of 1000 characters", padded({"n" * 1000: A["a"]}, A12)
    yield "unicode-name", "ok", "a name beyond ASCII", pack(json.dumps({"größe.日本": A["a"]}, ensure_ascii=False), A12)
    yield "escaped-name", "ok", "a name with JSON escapes", pack(text.replace('"a"', '"\\u0061\\/b"'), A12)
    yield "many", "ok", "300 tensors, keys in reverse order", padded(many, bytes(1200))
    yield "blanks-in-json", "ok", "JSON with blanks and line ends inside", pack(json.dumps(A, indent=2), A12)

    yield "empty-file", "bad", "no length", b""
    yield "short-length", "bad", "five bytes", b"\x10\0\0\0\0"
    yield "length-only", "bad", "length and no header", (64).to_bytes(8, "little")
    yield "truncated-header", "bad", "file ends inside the header", padded(A, b"")[:30]
    yield "header-too-long", "bad", "length above the cap of 100000000", pack(text, A12, length=100000001)
    yield "header-length-max", "bad", "length 2^64-1", pack(text, A12, length=2 ** 64 - 1)
    yield "header-length-wraps", "bad", "8 + length wraps to 0", pack(text, A12, length=2 ** 64 - 8)
    yield "header-length-sign", "bad", "length 2^63", pack(text, A12, length=2 ** 63)
    yield "header-zero", "bad", "length 0", (0).to_bytes(8, "little") + A12
    yield "header-short", "bad", "length cuts the JSON", pack(text, A12, length=len(text) - 5)
    yield "header-into-data", "bad", "length reaches into the data", pack(text, A12, length=len(text) + 6)
    yield "not-object", "bad", "an array", pack("[1,2]   ")
    yield "leading-blank", "bad", "first byte is not {", pack(" " + text, A12)
    yield "bom", "bad", "byte order mark before {", pack("\ufeff" + text, A12)
    yield "garbage", "bad", "not JSON", pack("{not json}")
    yield "garbage-after", "bad", "letters after the object", pack(text + " x", A12)
    yield "nul-padding", "bad", "padded with NUL instead of blanks", pack(text + "\0\0\0\0", A12)
    yield "bad-utf8", "bad", "name is not UTF-8", pack(text.encode().replace(b'"a"', b'"a\xff\xfe"'), A12)
    yield "utf8-surrogate", "bad", "name holds an encoded surrogate", pack(text.encode().replace(b'"a"', b'"a\xed\xa0\x80"'), A12)
    yield "lone-surrogate", "bad", "name holds an escaped lone surrogate", pack(text.replace('"a"', '"a\\ud800"'), A12)
    yield "duplicate-key", "bad", "two tensors of one name", pack(
        '{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}', bytes(12))
    yield "duplicate-key-escaped", "bad", "two spellings of one name", pack(
        '{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"\\u0061":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}', bytes(12))
    yield "duplicate-field", "bad", "two dtypes in one tensor", pack(text.replace('"dtype":"BF16"', '"dtype":"BF16","dtype":"F16"'), A12)
    yield "deep-nesting", "bad", "10000 brackets", pack('{"a":' + "[" * 10000)
    yield "deep-metadata", "bad", "metadata nested 5000 deep", pack('{"__metadata__":' + '{"a":' * 5000 + '""' + "}" * 5001)
    yield "metadata-not-object", "bad", "metadata is a list", pack({"__metadata__": ["pt"], **A}, A12)
    yield "metadata-number", "bad", "metadata value is a number", pack({"__metadata__": {"v": 1}, **A}, A12)
    yield "tensor-not-object", "bad", "tensor is a number", pack({"a": 12}, A12)
    yield "tensor-null", "bad", "tensor is null", pack({"a": None}, A12)
    yield "missing-dtype", "bad", "no dtype", one(dtype=None)
    yield "missing-shape", "bad", "no shape", one(shape=None)
    yield "missing-offsets", "bad", "no data_offsets", one(data_offsets=None)
    yield "unknown-dtype", "bad", "dtype Q5_K", one(dtype="Q5_K")
    yield "dtype-number", "bad", "dtype is a number", one(dtype=16)
    yield "dtype-lower-case", "bad", "dtype bf16", one(dtype="bf16")
    yield "shape-number", "bad", "shape is a number", one(shape=6)
    yield "shape-negative", "bad", "negative dimensions whose product fits", one(shape=[-2, -3])
    yield "shape-float", "bad", "dimension 2.0", one(shape=[2.0, 3])
    yield "shape-string", "bad", "dimension is a string", one(shape=["2", 3])
    yield "shape-bool", "bad", "dimension is true", one(shape=[True, 6])
    yield "shape-overflow", "bad", "product above 2^64", one(shape=[2 ** 33, 2 ** 33])
    yield "shape-wraps-to-zero", "bad", "product wraps to 0", pack({"a": entry("BF16", [2 ** 32, 2 ** 32], 0, 0)})
    yield "shape-wraps-to-size", "bad", "product wraps to the size", one(shape=[2 ** 62 + 3, 2, 2], dtype="U8")
    yield "bytes-wrap-to-size", "bad", "elements fit 64 bits, bytes do not", one(shape=[2 ** 63 + 6])
    yield "dimension-huge", "bad", "dimension beyond 64 bits", pack(text.replace("[2,3]", "[6,100000000000000000000000]"), A12)
    yield "wrong-size", "bad", "fewer bytes than the shape needs", one(shape=[2, 4])
    yield "wrong-size-more", "bad", "more bytes than the shape needs", one(shape=[2, 2])
    yield "offsets-one", "bad", "one offset", one(data_offsets=[0])
    yield "offsets-three", "bad", "three offsets", one(data_offsets=[0, 12, 12])
    yield "offsets-object", "bad", "offsets are an object", one(data_offsets={"begin": 0, "end": 12})
    yield "offset-float", "bad", "offset 12.0", one(data_offsets=[0, 12.0])
    yield "offset-string", "bad", "offset is a string", one(data_offsets=["0", "12"])
    yield "negative-offset", "bad", "offsets -12 and 0", one(data_offsets=[-12, 0])
    yield "offset-wraps", "bad", "begin + size wraps", one(data_offsets=[2 ** 64 - 12, 0])
    yield "offset-huge", "bad", "end beyond 64 bits", pack(text.replace("[0,12]", "[0,100000000000000000000000]"), A12)
    yield "begin-after-end", "bad", "begin 12, end 0", one(data_offsets=[12, 0])
    yield "oversized", "bad", "tensor ends beyond the file", pack({"a": entry("BF16", [2, 3000], 0, 12000)}, A12)
    yield "oversized-huge", "bad", "tensor of 2^62 bytes", pack({"a": entry("U8", [2 ** 62], 0, 2 ** 62)}, A12)
    yield "truncated-data", "bad", "last byte is missing", padded(A, A12[:-1])
    yield "trailing-bytes", "bad", "a byte after the last tensor", padded(A, A12 + b"\0")
    yield "trailing-only", "bad", "bytes but no tensor", padded({}, b"\0\0\0\0")
    yield "overlap", "bad", "two tensors share two bytes", pack({"a": entry("BF16", [3], 0, 6), "b": entry("F32", [2], 4, 12)}, A12)
    yield "overlap-same", "bad", "two tensors share all bytes", pack({"a": A["a"], "b": A["a"]}, A12)
    yield "overlap-inside", "bad", "one tensor inside another", pack({"a": entry("U8", [12], 0, 12), "b": entry("U8", [4], 4, 8)}, A12)
    yield "hole", "bad", "two bytes between tensors", pack({"a": entry("BF16", [2], 0, 4), "b": entry("BF16", [3], 6, 12)}, A12)
    yield "hole-at-start", "bad", "first tensor begins at 2", pack({"a": entry("BF16", [5], 2, 12)}, A12)
    yield "zero-size-outside", "bad", "zero-size tensor beyond the data", pack({**A, "z": entry("F32", [0], 100, 100)}, A12)
    yield "zero-size-inside", "bad", "zero-size tensor inside another", pack({**A, "z": entry("F32", [0], 4, 4)}, A12)


def ask_library(files):
    import safetensors
    for name, verdict, reason, data in files:
        try:
            safetensors.deserialize(data)
            found = "ok"
        except Exception as e:                                       # its one exception type is not public
            found = "bad"
        if found != verdict:
            print(f"safetensors {safetensors.__version__} takes {name} for {found}, listed {verdict}: {reason}")

    import tokenizers
    for name, verdict, reason, text in tokenizer_files():
        if verdict == "ok" and name.endswith(".json"):
            t = tokenizers.Tokenizer.from_str(text)
            assert t.encode("the", add_special_tokens=False).ids == [257], name


# --- config.json -------------------------------------------------------------------------------------------

TEXT = dict(model_type="llama4_text", hidden_size=64, intermediate_size=48, intermediate_size_mlp=80, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, num_local_experts=4, num_experts_per_tok=1,
            interleave_moe_layer_step=1, vocab_size=128, rms_norm_eps=1e-5, rope_theta=10000.0, rope_scaling=None,
            use_qk_norm=True, attention_chunk_size=8, attn_temperature_tuning=True, floor_scale=4, attn_scale=0.1,
            attention_bias=False, tie_word_embeddings=False, hidden_act="silu", max_position_embeddings=4096,
            bos_token_id=2, eos_token_id=[3, 4])
LLAMA3 = dict(rope_type="llama3", factor=16.0, low_freq_factor=1.0, high_freq_factor=1.0,
              original_max_position_embeddings=32)
GONE = object()


def text_only(**change):
    raw = {"architectures": ["Llama4ForCausalLM"], **TEXT, **change}
    return {k: v for k, v in raw.items() if v is not GONE}


def nested(**change):
    raw = dict(architectures=["Llama4ForConditionalGeneration"], model_type="llama4", image_token_index=1, boi_token_index=1,
               eoi_token_index=1, text_config=copy.deepcopy(TEXT))
    raw.update(change)
    return {k: v for k, v in raw.items() if v is not GONE}


def rope(**change):
    return text_only(rope_scaling={k: v for k, v in {**LLAMA3, **change}.items() if v is not GONE})


def config_files():
    """(name, verdict, reason, object or text)"""
    ok = lambda name, reason, raw: (name, "ok", reason, raw)
    bad = lambda name, reason, raw: (name, "bad", reason, raw)
    yield ok("text-only", "Llama4ForCausalLM, fields at the top", text_only())
    yield ok("nested", "text_config", nested())
    yield ok("nested-unknown-extras", "fields nobody needs", nested(
        for_llm_compressor=False, _attn_implementation_autoset=True, transformers_version="4.51.0", something={"a": [1]}))
    yield ok("scout", "published numbers of Scout", nested(boi_token_index=200080, eoi_token_index=200081, image_token_index=200092,
        text_config=dict(TEXT, hidden_size=5120, intermediate_size=8192, intermediate_size_mlp=16384, num_hidden_layers=48,
                         num_attention_heads=40, num_key_value_heads=8, head_dim=128, num_local_experts=16, vocab_size=202048,
                         rope_theta=500000.0, max_position_embeddings=10485760, attention_chunk_size=8192, floor_scale=8192,
                         rope_scaling=dict(LLAMA3, original_max_position_embeddings=8192), no_rope_layers=[],
                         attn_temperature_tuning=4, cache_implementation="hybrid", torch_dtype="bfloat16",
                         bos_token_id=200000, eos_token_id=[200001, 200007, 200008], pad_token_id=200018)))
    yield ok("maverick", "published numbers of Maverick", nested(boi_token_index=200080, eoi_token_index=200081,
        image_token_index=200092,
        text_config=dict(TEXT, hidden_size=5120, intermediate_size=8192, intermediate_size_mlp=16384, num_hidden_layers=48,
                         num_attention_heads=40, num_key_value_heads=8, head_dim=128, num_local_experts=128, vocab_size=202048,
                         interleave_moe_layer_step=2, use_qk_norm=False, rope_theta=500000.0, rope_scaling=None,
                         max_position_embeddings=1048576, attention_chunk_size=8192, floor_scale=8192,
                         moe_layers=list(range(1, 48, 2)), bos_token_id=200000, eos_token_id=[200001, 200007, 200008])))
    yield ok("dense", "moe_layers [], all layers RoPE, chunk null", text_only(moe_layers=[], no_rope_layers=[1, 1, 1, 1],
                                                                          attention_chunk_size=None))
    yield ok("no-rope-empty", "no_rope_layers []", text_only(no_rope_layers=[]))
    yield ok("lists-null", "moe_layers and no_rope_layers null", text_only(moe_layers=None, no_rope_layers=None))
    yield ok("kv-null", "num_key_value_heads null means as many as heads", text_only(num_key_value_heads=None))
    yield ok("head-dim-null", "head_dim null means hidden / heads", text_only(head_dim=None))
    yield ok("tuning-integer", "attn_temperature_tuning 4", text_only(attn_temperature_tuning=4))
    yield ok("tuning-zero", "attn_temperature_tuning 0", text_only(attn_temperature_tuning=0))
    yield ok("theta-integer", "rope_theta without a fraction", text_only(rope_theta=500000))
    yield ok("eos-single", "eos_token_id is one number", text_only(eos_token_id=3))
    yield ok("eos-null", "eos_token_id null", text_only(eos_token_id=None))
    yield ok("rope-parameters", "rope_parameters with llama3", text_only(rope_theta=GONE, rope_scaling=GONE,
                                                                     rope_parameters=dict(LLAMA3, rope_theta=10000.0)))
    yield ok("rope-parameters-default", "rope_type default", text_only(rope_theta=GONE, rope_scaling=GONE, rope_parameters=dict(
        rope_type="default", rope_theta=10000.0)))
    yield ok("rope-old-key", "type in place of rope_type", rope(rope_type=GONE, type="llama3"))
    yield ok("rope-low-is-high", "low_freq_factor equals high_freq_factor", rope())
    yield ok("defaults", "only what has no default", dict(architectures=["Llama4ForCausalLM"], model_type="llama4_text"))
    yield ok("top-2", "two experts per token", text_only(num_experts_per_tok=2))
    yield ok("all-experts", "as many per token as there are", text_only(num_experts_per_tok=4))

    yield bad("empty", "no text", "")
    yield bad("not-json", "not JSON", "hidden_size = 64\n")
    yield bad("truncated", "cut in the middle", json.dumps(text_only())[:200])
    yield bad("array", "an array", "[]")
    yield bad("garbage-after", "a second object", json.dumps(text_only()) + "{}")
    yield bad("duplicate-key", "hidden_size twice", json.dumps(text_only())[:-1] + ', "hidden_size": 32}')
    yield bad("bad-utf8", "not UTF-8", json.dumps(text_only()).encode()[:-1] + b', "x": "\xff"}')
    yield bad("nan", "NaN is no JSON", json.dumps(text_only(rms_norm_eps=float("nan"))))
    yield bad("number-too-large", "1e999", json.dumps(text_only()).replace("10000.0", "1e999"))
    yield bad("deep-nesting", "10000 brackets", '{"a": ' + "[" * 10000)
    yield bad("model-type-other", "another architecture", text_only(model_type="mixtral", architectures=["MixtralForCausalLM"]))
    yield bad("text-config-number", "text_config is a number", nested(text_config=4))
    yield bad("text-config-list", "text_config is a list", nested(text_config=[TEXT]))
    yield bad("activation-other", "hidden_act gelu", text_only(hidden_act="gelu"))
    sizes = ("hidden_size", "intermediate_size", "intermediate_size_mlp", "num_hidden_layers", "num_attention_heads",
             "num_key_value_heads", "head_dim", "num_local_experts", "num_experts_per_tok", "vocab_size", "interleave_moe_layer_step")
    for key in sizes:
        change = {"moe_layers": [0]} if key == "intermediate_size_mlp" else {}      # so that the field is used
        yield bad(f"zero-{key}", f"{key} 0", text_only(**{key: 0}, **change))
        yield bad(f"negative-{key}", f"{key} -1", text_only(**{key: -1}, **change))
        if key != "interleave_moe_layer_step":
            yield bad(f"huge-{key}", f"{key} 2^40", text_only(**{key: 2 ** 40}, **change))
            yield bad(f"beyond-64-bits-{key}", f"{key} 10^30", text_only(**{key: 10 ** 30}, **change))
    for key in ("hidden_size", "num_hidden_layers", "vocab_size"):
        yield bad(f"string-{key}", f"{key} is a string", text_only(**{key: "64"}))
        yield bad(f"list-{key}", f"{key} is a list", text_only(**{key: [64]}))
        yield bad(f"fraction-{key}", f"{key} 64.5", text_only(**{key: 64.5}))
        yield bad(f"true-{key}", f"{key} is true", text_only(**{key: True}))
    yield bad("heads-not-divisible", "4 heads, 3 kv heads", text_only(num_key_value_heads=3))
    yield bad("kv-above-heads", "4 heads, 8 kv heads", text_only(num_key_value_heads=8))
    yield bad("head-dim-odd", "head_dim 15 cannot be split in pairs", text_only(head_dim=15))
    yield bad("top-k-above-experts", "5 of 4 experts", text_only(num_experts_per_tok=5))
    yield bad("moe-layer-beyond", "moe_layers names layer 4 of 4", text_only(moe_layers=[0, 4]))
    yield bad("moe-layer-negative", "moe_layers names layer -1", text_only(moe_layers=[-1]))
    yield bad("moe-layer-string", "moe_layers holds a string", text_only(moe_layers=["0"]))
    yield bad("moe-layers-number", "moe_layers is a number", text_only(moe_layers=2))
    yield bad("no-rope-short", "no_rope_layers has 3 entries for 4 layers", text_only(no_rope_layers=[1, 1, 0]))
    yield bad("no-rope-string", "no_rope_layers holds a string", text_only(no_rope_layers=[1, 1, "0", 1]))
    yield bad("no-rope-interval-zero", "no_rope_layer_interval 0", text_only(no_rope_layer_interval=0))
    yield bad("chunk-zero", "attention_chunk_size 0", text_only(attention_chunk_size=0))
    yield bad("chunk-negative", "attention_chunk_size -8", text_only(attention_chunk_size=-8))
    yield bad("chunk-string", "attention_chunk_size is a string", text_only(attention_chunk_size="8"))
    yield bad("floor-scale-zero", "floor_scale 0 with tuning on", text_only(floor_scale=0))
    yield bad("floor-scale-negative", "floor_scale -4", text_only(floor_scale=-4))
    yield bad("eps-negative", "rms_norm_eps below 0", text_only(rms_norm_eps=-1e-5))
    yield bad("eps-string", "rms_norm_eps is a string", text_only(rms_norm_eps="1e-5"))
    yield bad("tuning-string", "attn_temperature_tuning is a string", text_only(attn_temperature_tuning="yes"))
    yield bad("qk-norm-string", "use_qk_norm is a string", text_only(use_qk_norm="true"))
    yield bad("theta-zero", "rope_theta 0", text_only(rope_theta=0.0))
    yield bad("theta-negative", "rope_theta below 0", text_only(rope_theta=-10000.0))
    yield bad("theta-string", "rope_theta is a string", text_only(rope_theta="10000"))
    yield bad("rope-unknown", "rope_type that Llama 4 does not use", rope(rope_type="longrope"))
    yield bad("rope-scaling-list", "rope_scaling is a list", text_only(rope_scaling=[LLAMA3]))
    yield bad("rope-no-factor", "llama3 without factor", rope(factor=GONE))
    yield bad("rope-factor-zero", "factor 0", rope(factor=0.0))
    yield bad("rope-factor-negative", "factor -16", rope(factor=-16.0))
    yield bad("rope-low-zero", "low_freq_factor 0", rope(low_freq_factor=0.0))
    yield bad("rope-original-zero", "original_max_position_embeddings 0", rope(original_max_position_embeddings=0))
    yield bad("rope-factor-string", "factor is a string", rope(factor="16"))
    yield bad("eos-string", "eos_token_id is a string", text_only(eos_token_id="3"))
    yield bad("eos-list-string", "eos_token_id holds a string", text_only(eos_token_id=[3, "4"]))


# --- model.safetensors.index.json ----------------------------------------------------------------------------

def index_files():
    """(name, verdict, reason, object or text). Each stands in the place of the index of model/M: c is a tensor whose
    file an edit changes, one a shard that does not hold it."""
    with open(os.path.join(HERE, "model", "M", "model.safetensors.index.json")) as f:
        given = json.load(f)
    names = given["weight_map"]
    c = next(iter(names))
    one = next(file for file in names.values() if file != names[c])

    def index(**change):
        return {"metadata": given["metadata"], "weight_map": {**names, **{c if k == "c" else k: v for k, v in change.items()}}}

    text = json.dumps(index())
    yield "plain", "ok", "unchanged", index()
    yield "no-metadata", "ok", "weight_map alone", {"weight_map": names}
    yield "more-metadata", "ok", "fields nobody needs", {"metadata": {"total_size": 16, "x": [1]}, "weight_map": names, "y": None}
    yield "other-order", "ok", "names in another order", {"weight_map": dict(reversed(names.items()))}

    yield "empty", "bad", "no text", ""
    yield "not-json", "bad", "not JSON", "a: one.safetensors\n"
    yield "truncated", "bad", "cut in the middle", text[:60]
    yield "array", "bad", "an array", "[]"
    yield "no-weight-map", "bad", "metadata alone", {"metadata": {"total_size": 16}}
    yield "weight-map-list", "bad", "weight_map is a list", {"weight_map": [one]}
    yield "weight-map-null", "bad", "weight_map is null", {"weight_map": None}
    yield "file-number", "bad", "file name is a number", index(c=2)
    yield "file-null", "bad", "file name is null", index(c=None)
    yield "file-empty", "bad", "file name is empty", index(c="")
    yield "file-missing", "bad", "names a file that is not there", index(c="three.safetensors")
    yield "file-folder", "bad", "names the folder itself", index(c=".")
    yield "file-above", "bad", "file outside the folder", index(c="../M/" + names[c])
    yield "file-absolute", "bad", "absolute file name", index(c="/dev/null")
    yield "file-nul", "bad", "file name with a zero byte", index(c=names[c] + "\0x")
    yield "tensor-missing", "bad", "tensor is not in the file named", index(c=one)
    yield "tensor-nowhere", "bad", "tensor that no file has", index(d=one)
    yield "tensor-twice", "bad", "one tensor listed twice", text[:-2] + f', "{c}": "{names[c]}"}}}}'
    yield "deep-nesting", "bad", "10000 brackets", '{"weight_map": ' + "[" * 10000


# --- tokenizer.json and tokenizer.model ----------------------------------------------------------------------

def byte_map():
    keep = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in keep]
    return {**{b: chr(b) for b in keep}, **{b: chr(256 + n) for n, b in enumerate(rest)}}


def tokenizer_json(edit=None):
    """Bytes in order, then "th", "the", "he" and two special tokens; edit changes the object in place."""
    vocab = {c: b for b, c in byte_map().items()}
    vocab.update({"th": 256, "the": 257, "he": 258})
    special = lambda i, s: dict(id=i, content=s, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    d = dict(version="1.0", truncation=None, padding=None, normalizer=None,
             added_tokens=[special(259, "<|begin_of_text|>"), special(260, "<|eot|>")],
             pre_tokenizer=dict(type="Sequence", pretokenizers=[
                 dict(type="Split", pattern={"Regex": r"\p{N}{1,3}|[^\r\n\p{L}\p{N}]?\p{L}+|\s+|."}, behavior="Isolated", invert=False),
                 dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)]),
             post_processor=None, decoder=dict(type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True),
             model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
                        fuse_unk=False, byte_fallback=False, ignore_merges=True, vocab=vocab,
                        merges=[["t", "h"], ["th", "e"], ["t", "he"], ["h", "e"]]))
    if edit:
        edit(d)
    return json.dumps(d, ensure_ascii=False)


def tokenizer_model(edit=lambda rows: None):
    rows = [(bytes([b]), b) for b in range(256)] + [(b"th", 256), (b"the", 257), (b"he", 258)]
    rows = [[base64.b64encode(t).decode(), str(r)] for t, r in rows]
    edit(rows)
    return "".join(" ".join(r) + "\n" for r in rows)


def tokenizer_files():
    """(file name, verdict, reason, text)"""
    def model(**change): return tokenizer_json(lambda d: d["model"].update(change))
    def vocab(**change): return tokenizer_json(lambda d: d["model"]["vocab"].update(change))
    def merge(m): return tokenizer_json(lambda d: d["model"]["merges"].append(m))
    def added(i, **change): return tokenizer_json(lambda d: d["added_tokens"][i].update(change))
    def split(**change): return tokenizer_json(lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(change))
    def row(i, r): return tokenizer_model(lambda rows: rows.__setitem__(i, r))
    text = tokenizer_json()

    yield "plain.json", "ok", "259 tokens and two specials", text
    yield "merges-strings.json", "ok", "merges as strings", model(merges=["t h", "th e", "t he", "h e"])
    yield "escaped.json", "ok", "everything beyond ASCII escaped", json.dumps(json.loads(text))
    yield "no-added.json", "ok", "no special tokens", tokenizer_json(lambda d: d.update(added_tokens=[]))
    yield "indented.json", "ok", "with line ends", json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    yield "plain.model", "ok", "259 lines", tokenizer_model()
    yield "no-last-newline.model", "ok", "no line end after the last line", tokenizer_model()[:-1]

    yield "empty.json", "bad", "no text", ""
    yield "truncated.json", "bad", "cut in the middle", text[:2000]
    yield "array.json", "bad", "an array", "[]"
    yield "no-model.json", "bad", "no model", tokenizer_json(lambda d: d.pop("model"))
    yield "model-null.json", "bad", "model is null", tokenizer_json(lambda d: d.update(model=None))
    yield "model-unigram.json", "bad", "another kind of model", model(type="Unigram")
    yield "vocab-missing.json", "bad", "no vocab", tokenizer_json(lambda d: d["model"].pop("vocab"))
    yield "vocab-list.json", "bad", "vocab is a list", model(vocab=["a", "b"])
    yield "id-negative.json", "bad", "id -1", vocab(the=-1)
    yield "id-huge.json", "bad", "id 2^40", vocab(the=2 ** 40)
    yield "id-above-31-bits.json", "bad", "id 2^31", vocab(the=2 ** 31)
    yield "id-fraction.json", "bad", "id 257.5", vocab(the=257.5)
    yield "id-string.json", "bad", "id is a string", vocab(the="257")
    yield "id-twice.json", "bad", "two tokens of one id", vocab(the=256)
    yield "token-twice.json", "bad", "one token twice", text.replace('"he": 258', '"th": 258')
    yield "token-not-bytes.json", "bad", "a token with a character that stands for no byte", vocab(**{"\u3042": 261})
    yield "byte-missing.json", "bad", "no token for one of the bytes", tokenizer_json(lambda d: d["model"]["vocab"].pop("a"))
    yield "merges-missing.json", "bad", "no merges", tokenizer_json(lambda d: d["model"].pop("merges"))
    yield "merges-object.json", "bad", "merges are an object", model(merges={"t": "h"})
    yield "merge-unknown.json", "bad", "merge of something that is no token", merge(["q", "zz"])
    yield "merge-no-result.json", "bad", "merge to something that is no token", merge(["q", "z"])
    yield "merge-one-part.json", "bad", "merge of one part", merge(["t"])
    yield "merge-three-parts.json", "bad", "merge of three parts", merge(["t", "h", "e"])
    yield "merge-number.json", "bad", "merge of numbers", merge([1, 2])
    yield "merge-string-one-part.json", "bad", "merge string without a blank", model(merges=["th"])
    yield "added-object.json", "bad", "added_tokens is an object", tokenizer_json(lambda d: d.update(added_tokens={"a": 1}))
    yield "added-no-content.json", "bad", "added token without content", tokenizer_json(lambda d: d["added_tokens"][0].pop("content"))
    yield "added-empty.json", "bad", "added token with empty content", added(0, content="")
    yield "added-id-negative.json", "bad", "added token of id -1", added(0, id=-1)
    yield "added-id-huge.json", "bad", "added token of id 2^40", added(0, id=2 ** 40)
    yield "added-id-clash.json", "bad", "added token with an ordinary token's id", added(0, id=97)
    yield "added-id-twice.json", "bad", "two added tokens of one id", added(1, id=259)
    yield "pattern-broken.json", "bad", "split pattern that is none", split(pattern={"Regex": "[(\\p{L}"})
    yield "pattern-number.json", "bad", "split pattern is a number", split(pattern={"Regex": 3})
    yield "split-removed.json", "bad", "a split that drops text", split(behavior="Removed")
    yield "normalizer.json", "bad", "a normalizer", tokenizer_json(lambda d: d.update(normalizer={"type": "NFKC"}))
    yield "bad-utf8.json", "bad", "not UTF-8", text.encode().replace(b'"the"', b'"the\xff"')
    yield "deep-nesting.json", "bad", "10000 brackets", '{"model": ' + "[" * 10000

    yield "empty.model", "bad", "no text", ""
    yield "bad-base64.model", "bad", "a sign outside the alphabet", row(97, ["Y*==", "97"])
    yield "base64-cut.model", "bad", "base64 of odd length", row(97, ["Y", "97"])
    yield "token-empty.model", "bad", "a token of no bytes", row(258, ["", "258"])
    yield "rank-missing.model", "bad", "a line without rank", row(97, ["YQ=="])
    yield "rank-text.model", "bad", "rank is no number", row(97, ["YQ==", "x"])
    yield "rank-negative.model", "bad", "rank -1", row(97, ["YQ==", "-1"])
    yield "rank-huge.model", "bad", "rank beyond 64 bits", row(258, ["aGU=", "1" + "0" * 30])
    yield "rank-twice.model", "bad", "two tokens of one rank", row(258, ["aGU=", "257"])
    yield "rank-gap.model", "bad", "a rank is left out", row(258, ["aGU=", "300"])
    yield "token-twice.model", "bad", "one token of two ranks", row(258, ["dGg=", "258"])
    yield "byte-missing.model", "bad", "no token for one of the bytes", tokenizer_model(
        lambda rows: rows.__setitem__(97, ["eHh4", "97"]))
    yield "columns-three.model", "bad", "a third column", row(97, ["YQ==", "97", "1"])


# --- files -------------------------------------------------------------------------------------------------

def write_folder(out, kind, rows):
    """rows: (file name, verdict, reason, object, text or bytes)"""
    folder = os.path.join(out, kind)
    os.makedirs(folder)
    with open(os.path.join(folder, "LIST"), "w") as f:
        for name, verdict, reason, raw in rows:
            f.write(f"{name} {verdict} {reason}\n")
            if isinstance(raw, dict):
                raw = json.dumps(raw, indent=1) + "\n"
            with open(os.path.join(folder, name), "wb") as g:
                g.write(raw.encode() if isinstance(raw, str) else raw)


def write(out):
    suffixed = lambda rows, suffix: ((name + suffix, *rest) for name, *rest in rows)
    write_folder(out, "safetensors", suffixed(safetensors_files(), ".safetensors"))
    write_folder(out, "config", suffixed(config_files(), ".json"))
    write_folder(out, "index", suffixed(index_files(), ".json"))
    write_folder(out, "tokenizer", tokenizer_files())


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--check", action="store_true")
    ap.add_argument("--safetensors", action="store_true")
    args = ap.parse_args()
    committed = os.path.join(HERE, "malformed")
    if args.safetensors:
        ask_library(safetensors_files())
        return 0
    if not args.check:
        shutil.rmtree(committed, ignore_errors=True)
        write(committed)
        return 0
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        write(tmp)
        for kind in ("safetensors", "config", "index", "tokenizer"):
            for name in sorted({*os.listdir(os.path.join(tmp, kind)), *os.listdir(os.path.join(committed, kind))}):
                a, b = (os.path.join(d, kind, name) for d in (tmp, committed))
                if not (os.path.exists(a) and os.path.exists(b) and open(a, "rb").read() == open(b, "rb").read()):
                    print(kind, name, "differs")
                    bad = 3
    return bad


if __name__ == "__main__":
    sys.exit(main())
