#!/usr/bin/env python3
"""make_strings.py - strings with their token ids, for tests of the tokenizer.

    make_strings.py                    small/: a tokenizer of our own, its strings, special-token and decoding cases
    make_strings.py TOKENIZER.MODEL    also strings.jsonl and vectors.jsonl, ids of Llama 4's own tokenizer, whose file
                                       is under a licence of its own and is therefore not kept here
                                       (the environment variable CRL_LLAMA4_TOKENIZER serves as well)
    --check                            compare with the committed files instead of writing

Every id list is computed twice, by tiktoken (from ranks) and by tokenizers (from a tokenizer.json), and
the two must agree; see README.md, "tokenizer/".
"""
import argparse
import base64
import json
import os
import random
import sys

import tiktoken
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))

SPLIT = "|".join((
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
))


def special_names(count):
    """Names of the special tokens in the order of their ids, from the first id after the ordinary tokens."""
    post = [f"<|text_post_train_reserved_special_token_{i}|>" for i in range(69)]
    vis = [f"<|vision_reserved_special_token_{i}|>" for i in range(1048)]
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
             "<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>", "<|step|>", *post[0:6], "<|python_start|>",
             "<|python_end|>", "<|finetune_right_pad|>", *post[8:69], "<|image_start|>", "<|image_end|>", *vis[0:2],
             "<|tile_x_separator|>", "<|tile_y_separator|>", *vis[2:6], "<|image|>", vis[6], "<|patch|>", *vis[7:],
             *[f"<|reasoning_reserved_special_token_{i}|>" for i in range(8)],
             "<|reasoning_thinking_start|>", "<|reasoning_thinking_end|>",
             *[f"<|reserved_special_token_{i}|>" for i in range(904)]]
    assert len(names) == 2048 and names[92] == "<|patch|>" and names[1142] == "<|reasoning_thinking_start|>"
    return names[:count]


# --- the two tokenizers ------------------------------------------------------------------------------------

def byte_map():
    keep = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    out, n = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in out:
            out[b] = chr(256 + n)
            n += 1
    return out


MAP = byte_map()
UNMAP = {c: b for b, c in MAP.items()}


def read_ranks(path):
    with open(path, "rb") as f:
        return {base64.b64decode(t): int(r) for t, r in (line.split() for line in f if line.strip())}


def merges_of(ranks):
    """All ways to make each token out of two others, lowest token first: the rank rule as a list of merges."""
    out = []
    for token, _ in sorted(ranks.items(), key=lambda x: x[1]):
        ways = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        out += sorted(ways, key=lambda w: (ranks[w[0]], ranks[w[1]]))
    return out


def text_form(token):
    return "".join(MAP[b] for b in token)


def split_tokenizer(model):
    t = Tokenizer(model)
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    return t


def hf_tokenizer(ranks, specials):
    vocab = {text_form(t): r for t, r in ranks.items()}
    merges = [(text_form(a), text_form(b)) for a, b in merges_of(ranks)]
    t = split_tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True, byte_fallback=False,
                                   fuse_unk=False))
    t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in specials])
    assert t.token_to_id(specials[0]) == len(ranks) and t.token_to_id(specials[-1]) == len(ranks) + len(specials) - 1
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=specials[0] + " $A", special_tokens=[(specials[0], len(ranks))])])
    return t


def tik_tokenizer(ranks, specials):
    return tiktoken.Encoding("golden", pat_str=SPLIT, mergeable_ranks=ranks,
                             special_tokens={s: len(ranks) + i for i, s in enumerate(specials)})


class Both:
    """Encodes with both and insists on agreement."""

    def __init__(self, ranks, specials):
        self.hf, self.tik = hf_tokenizer(ranks, specials), tik_tokenizer(ranks, specials)
        self.differ = []

    def plain(self, text):
        """ids, or None where the two differ"""
        self.hf.encode_special_tokens = True
        a = self.hf.encode(text, add_special_tokens=False).ids
        self.hf.encode_special_tokens = False
        b = self.tik.encode_ordinary(text)
        if a != b:
            self.differ.append((text, a, b))
            return None
        return a

    def parsed(self, text, bos=False):
        a = self.hf.encode(text, add_special_tokens=bos).ids
        b = self.tik.encode(text, allowed_special="all")
        assert a[bos:] == b, (text, a, b)
        return a


# --- the small tokenizer of our own ------------------------------------------------------------------------

SUBJECTS = """the ferry|a small river|my neighbour|the old clock|every student|the night train|our garden|the baker
|a tall ship|the winter storm|the engineer|her letter|the market|that bridge|the committee|a patient teacher""".replace("\n", "")
VERBS = """crosses|remembers|repairs|measures|follows|describes|carries|leaves|has opened|is looking for|will count|would
 not sell|forgot|has been painting|understands|waits behind""".replace("\n", "")
OBJECTS = """the harbour|three wooden boxes|the long answer|a map of the valley|the second question|its own shadow|bread and
 salt|the broken window|an empty street|the numbers in the table|his daughter's bicycle|the weather|what they wrote
|yesterday's news|a quiet evening|the whole village""".replace("\n", "")
TAILS = """.|!|?|, but nobody noticed.|; it didn't matter.| before sunrise.| in 1987.| (again).| - or so we're told.
|, and that's all I've got to say.| every 15 minutes.|: "It'll do," she said.| for $3.50 each.""".replace("\n", "")
CODE = """int main(void)\n{\n    return 0;\n}\n|for (size_t i = 0; i < n; i++)\n    sum += x[i] * y[i];\n
|def mean(values):\n    \"\"\"Average of a list.\"\"\"\n    return sum(values) / len(values)\n
|if x is None:\n\tpass\nelse:\n\tprint(f"{x:>8.3f}")\n|<p class="note">Hello &amp; goodbye</p>\n
|{"name": "get_weather", "parameters": {"city": "Oslo"}}|SELECT id, name FROM users WHERE age >= 21;\n
|git commit -m "fix: don't crash" && ./configure --prefix=/usr/local\n|#include <stdint.h>\n#define MAX(a, b) ((a) > (b) ? (a) : (b))\n
|x = [k for k, v in d.items() if v != {}]  # comment\r\n|let f = |n: u32| -> u32 { n << 2 };\n
|https://example.org/a/b?c=d&e=f#top|user@example.org|C:\\\\Temp\\\\file.txt|== <> !== => ... --- ### /* */ //\n"""
WORDS = {
    "latin": "façade naïve Ærø smörgås coração señor ÉTÉ garçon Łódź příliš žluťoučký kůň İstanbul ağaç ﬁn straße STRASSE",
    "greek": "Καλημέρα κόσμε θάλασσα ΑΘΗΝΑ Ὀδυσσεύς λόγος",
    "cyrillic": "Привет мир Москва тетрадь ЁЖИК їжак Ђорђе",
    "hebrew": "שלום עולם בְּרֵאשִׁית",
    "arabic": "مرحبا بالعالم كِتَاب ١٢٣٤ فارسی ۵۶۷",
    "devanagari": "नमस्ते दुनिया हिन्दी क्षत्रिय १२३",
    "bengali": "বাংলা ভাষা শক্তি ৪৫৬",
    "tamil": "தமிழ் வணக்கம் மொழி",
    "thai": "สวัสดีชาวโลก ภาษาไทย ๑๒๓",
    "georgian": "გამარჯობა მსოფლიო",
    "armenian": "Բարեւ աշխարհ",
    "ethiopic": "ሰላም ልዑል",
    "khmer": "សួស្តី ពិភពលោក",
    "hangul": "안녕하세요 세계 한국어 ㄱㄴㄷ 가",
    "kana": "こんにちは カタカナ ﾊﾝｶｸ ー 々 がぎぐ",
    "han": "你好世界 漢字仮名 中文測試 𠮷野家 三十二",
    "vietnamese": "Tiếng Việt đường phố",
    "combining": "a\u0301 e\u0308\u0301 Z\u0351\u036b n\u0303 \u0301x o\u0302\u0323 \u0300",
    "modifier": "ʰʷ ˈstɹɛs ᵃᵇᶜ ªº ˜ ǅ ǈ ᾼ",
    "numbers": "½ ² Ⅷ ⑦ ٣ ৫ 𝟘𝟙 一 ㊿ 3½",
    "punct": "¿qué? «oui» „so“ ‘a’ “b” … — – ‐ · • ‰ § ¶ † ※ 。、「」？！",
    "symbols": "€ £ ¥ ₿ ∑ ∫ √ ≤ ≠ ∞ ← ↔ ⇒ ▲ ■ ░ ╔═╗ ♠ ♥ ☂ ✓ ✗ ★",
    "emoji": "😀 🙂👍🏽 👩‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 🇳🇴 ☀️ 1️⃣ ❤️‍🔥 🤷🏿‍♀️",
    "format": "a\u200bb a\u200db \u200e \u2060 \ufeffx soft\u00adhyphen \ufffd \U000e0001",
    "math": "𝐀𝒷𝔠 𝕏 ℵ ℝ ℏ K Å",
}
BLANKS = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n", "\n ", "\r", "\u00a0", "\u3000", "\u2003", "\u2028", "\u0085",
          "\v", "\f", "\u1680", "\u202f", "\u205f", "        ", "\t\t", "\n\n\n", " \t \n"]
CONTRACTIONS = ["I'm", "can't", "WE'LL", "they'd've", "It'S", "he'S", "you'RE", "'tis", "'s", "x'd", "rock'n'roll", "don\u2019t",
                "tra\u017fse'\u017f", "A'\u017fb", "I'LLs", "o'clock", "'''", "s's's", "'VE", " 're", "1's", "1't", "\u0301's",
                "ABC'd", "Abc'Ll", "n't", "''s", "it's.", "\u00e9's", "\u65e5'm"]


def sentence(rng):
    pick = lambda s: rng.choice(s.split("|"))
    s = f"{pick(SUBJECTS)} {pick(VERBS)} {pick(OBJECTS)}"
    return s[0].upper() + s[1:] + pick(TAILS)


def snippet(rng):
    return rng.choice([c for c in CODE.split("\n|")])


def training_text(rng):
    for _ in range(3000):
        yield " ".join(sentence(rng) for _ in range(rng.randint(1, 6))) + rng.choice(["", "\n", "\n\n"])
    for _ in range(200):
        yield snippet(rng) + "\n"
    for words in WORDS.values():
        for _ in range(25):
            yield " ".join(rng.sample(words.split(" "), min(4, len(words.split(" ")))))
    for role in ("system", "user", "assistant", "ipython"):
        for _ in range(40):
            yield role
    for _ in range(300):
        yield f"{rng.randint(0, 9999)} + {rng.randint(0, 99)} = {rng.random() * 100:.2f}"


RARE = (" qzxvj", "Qzxw", " \u0436\u0448\u0449\u044a", "~~^^~~", " KWZQ's")


def train_small():
    """Ranks of about 900 tokens, some of them not reachable by merges."""
    t = split_tokenizer(models.BPE(ignore_merges=True))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator(training_text(random.Random(7)), trainers.BpeTrainer(
        vocab_size=880, initial_alphabet=alphabet, special_tokens=[], show_progress=False))
    order = sorted(t.get_vocab().items(), key=lambda x: x[1])
    ranks = {bytes(UNMAP[c] for c in token): rank for token, rank in order}
    assert all(bytes([b]) in ranks for b in range(256))
    # Whole pieces that no pair of tokens yields: found only by looking the piece up before merging.
    for word in RARE:
        ranks.setdefault(word.encode(), len(ranks))
    return ranks


def old_merges(text):
    """The same tokenizer.json as older versions wrote it: a merge is one string with a blank between."""
    d = json.loads(text)
    d["model"]["merges"] = [" ".join(m) for m in d["model"]["merges"]]
    return json.dumps(d, ensure_ascii=False, separators=(",", ":")) + "\n"


# --- strings -----------------------------------------------------------------------------------------------

def random_letters(rng):
    script = rng.choice(list(WORDS))
    return "".join(rng.choice(WORDS[script]) for _ in range(rng.randint(1, 12)))


def mixed(rng):
    out = []
    for _ in range(rng.randint(2, 9)):
        out.append(rng.choice((
            lambda: rng.choice(rng.choice(list(WORDS.values())).split(" ")), lambda: rng.choice(BLANKS),
            lambda: rng.choice(CONTRACTIONS), lambda: str(rng.randint(0, 10 ** rng.randint(1, 12))),
            lambda: rng.choice("/.,;:!?()[]{}<>@#$%^&*-_=+|\\\"'`~") * rng.randint(1, 4),
            lambda: rng.choice(sentence(rng).split(" ")), lambda: random_letters(rng)))())
    return "".join(out)


def case_word(rng):
    return "".join(rng.choice("abcdefXYZABÉéßЖжΣσǅʰ日") for _ in range(rng.randint(1, 9)))


def from_bytes(rng):
    """Random bytes, of which invalid ones become U+FFFD, as any reader of files does."""
    n = rng.randint(1, 24)
    pool = rng.choice((range(256), range(0x80, 0x100), range(0x20), [0xE2, 0x80, 0x99, 0xF0, 0x9F, 0x41, 0x20, 0xC3]))
    return bytes(rng.choice(pool) for _ in range(n)).decode("utf-8", "replace")


def number(rng):
    return rng.choice((
        lambda: str(rng.randint(0, 10 ** rng.randint(1, 15))), lambda: f"{rng.random() * 1e4:.{rng.randint(0, 8)}f}",
        lambda: f"{rng.randint(1, 31):02}/{rng.randint(1, 12):02}/{rng.randint(1900, 2030)}",
        lambda: hex(rng.getrandbits(40)), lambda: f"{rng.randint(-99999999, 99999999):,}",
        lambda: f"{rng.random():e}", lambda: f"v{rng.randint(0, 9)}.{rng.randint(0, 99)}.{rng.randint(0, 999)}-rc1",
        lambda: "".join(rng.choice("0123456789٣৫²½Ⅷ𝟙") for _ in range(rng.randint(1, 8)))))()


def spaces(rng):
    word = lambda: rng.choice(("x", "word", "1", "-", "日", "", "Él", "//"))
    return "".join(word() + "".join(rng.choice(BLANKS) for _ in range(rng.randint(0, 4))) for _ in range(rng.randint(1, 5)))


def punctuation(rng):
    return "".join(rng.choice(" /.,;:!?()[]{}<>@#$%^&*-_=+|\\\"'`~\n\r…—«»。・£") for _ in range(rng.randint(1, 16)))


def long_piece(rng):
    unit = rng.choice(("a", "ab", "the", " ", "\n", "é", "日本", "=", "-", "ABC", "x1", ".", "😀", "'s", "\t"))
    return unit * rng.randint(20, 120)


def strings(rng, count):
    """Fixed ones first, then a weighted draw. No duplicates."""
    seen = dict.fromkeys(["", *CONTRACTIONS, *BLANKS, *CODE.split("\n|"), *WORDS.values(),
                          *(w for words in WORDS.values() for w in words.split(" ")),
                          *RARE, *(f"a{w}b" for w in RARE), *(f"{w}s" for w in RARE), *(f" {w}" for w in RARE),
                          # U+180E was a blank before Unicode 6.3 and is none since; some engines still take it for one
                          "x\u180ey", "x \u180e y", "\u180e\n", "  \u180e"])
    for a in BLANKS:                       # every pair of blanks between letters, digits and signs
        for b in BLANKS[:12]:
            seen["x" + a + b + rng.choice(("y", "1", "-", ""))] = None
    kinds = ((sentence, 5), (lambda r: " ".join(sentence(r) for _ in range(3)), 1), (snippet, 1),
             (lambda r: snippet(r) + sentence(r), 1), (mixed, 7), (case_word, 3), (from_bytes, 2), (number, 3), (spaces, 4),
             (punctuation, 3), (random_letters, 4), (long_piece, 1), (lambda r: r.choice(CONTRACTIONS) + case_word(r), 1))
    pool = [k for k, weight in kinds for _ in range(weight)]
    while len(seen) < count:
        seen[rng.choice(pool)(rng)] = None
    return list(seen)[:count]


VECTORS = json.loads(r'''[
["Who are you?","33267 583 650 43"],["What is 2+2?","3668 373 220 30 23 30 43"],["Hello, world!","19873 24 3817 13"],
["hello world","25681 3817"],[" the","290"],
["The quick brown fox jumps over the lazy dog.","954 7202 27756 92637 67072 1278 290 37463 10877 26"],
["I'm can't WE'LL they'd've","23752 12337 39986 19 10962 147941 11305"],["1234567890","7235 19596 30054 28"],
["3.14159 and 42%","31 26 13944 3933 341 220 3763 17"],
["def f(x):\n    return x**2\n","1251 288 2595 1960 277 677 831 442 30 198"],["\n\n","368"],
["  leading and  double   spaces  ","220 10855 341 220 4041 256 15174 256"],
["tabs\t\tand\r\nCRLF\r\n","69584 197 103956 13266 191111 50 13266"],
["https://example.com/a/b?c=d&e=f","2271 1050 15860 1127 11159 4790 43 79 51084 18 81 34927"],
["na\u00efve caf\u00e9 \u00dcn\u00efc\u00f6d\u00e9","1499 164301 49652 11563 90 14323 79 20003 397"],
["\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440","10815 3524 24 33701"],
["\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8","21764 16728 1169 169866"],
["\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8","40832 3824 180515"],
["\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645","17224 2307 57896 12996 35935 850"],
["\u0939\u093f\u0928\u094d\u0926\u0940","2471 9028 98999"],
["\ud83d\ude42\ud83d\udc4d\ud83c\udffd emoji","5796 247 224 65906 235 73601 134 88230"],
["CamelCaseHTTPServer","160473 7508 19117 7317"],["snake_case_name","160940 49163 2653"],
["a\u0301 combining","77 7908 38108"],["  \n  \n x","33409 831"],["x\n\n\ny","100 2946 101"],["///\n\n//","7031 41336"],
["don\u2019t","21414 2705"],
["HELLO'S \u017ftra\u017fse'\u017f","110366 2972 36812 5763 136 12173 129813 424 19 129813"],
["\u00a0nbsp\u3000ideographic","394 7530 2694 679 13393"],["\ud83c\udff3\ufe0f\u200d\ud83c\udf08","73601 124 24204 12817 93293 230"],
["",""]]''')

SPECIAL_TEXTS = [
    "<|begin_of_text|>", "Hello<|eot|>", "<|eot|><|eot|>", " <|eot|> ", "<|header_start|>user<|header_end|>\n\nHi<|eot|>",
    "<|begin_of_text|><|header_start|>system<|header_end|>\n\nBe brief.<|eot|><|header_start|>user<|header_end|>\n\n Hi <|eot|>"
    "<|header_start|>assistant<|header_end|>\n\n",
    "<|eot", "<|eot|", "eot|>", "<|EOT|>", "<| eot|>", "<|eot|>>", "<<|eot|>", "a<|image|>b<|patch|><|patch|>c",
    "<|image_start|><|image|><|patch|><|tile_x_separator|><|tile_y_separator|><|image_end|>",
    "<|header_start|>assistant<|header_end|>\n\n\nfoo", "<|header_end|>\n\n  \n x", "x\n<|eom|>\ny", "<|python_start|>f(x)<|python_end|>",
    "<|finetune_right_pad|>", "<|text_post_train_reserved_special_token_0|>", "<|text_post_train_reserved_special_token_6|>",
    "<|text_post_train_reserved_special_token_68|>", "<|vision_reserved_special_token_1|>", "<|step|>1<|step|>2", "<|unknown|>",
    "it's<|eot|>'s", "日本<|eot|>語", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", "<|end_of_text|>\n", "  <|eot|>\n\n  <|eot|>",
    "don<|eot|>'t", "12<|eot|>34", "<|begin_of_text|><|begin_of_text|>"]


# --- decoding ----------------------------------------------------------------------------------------------

def decoding_cases(rng, both, ranks, count):
    """Id lists whose bytes need not be UTF-8. text: specials left out; text_specials: printed by name."""
    by_byte = {t[0]: r for t, r in ranks.items() if len(t) == 1}
    token = {r: t for t, r in ranks.items()}
    names = dict(enumerate(special_names(93), len(ranks)))
    fixed = [[], [0xE2], [0xE2, 0x82], [0xE2, 0x82, 0xAC], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF0, 0x9F, 0x98], [0xF0, 0x9F, 0x98, 0x80],
             [0xF4, 0x90, 0x80, 0x80], [0xF8, 0x88], [0x80], [0x80, 0x80, 0x41], [0xE0, 0x80, 0x41], [0xE1, 0x80, 0xE2], [0xFF, 0xFE],
             [0xC3, 0x28], [0xE2, 0x28, 0xA1], [0xF0, 0x28, 0x8C, 0xBC], [0xF1, 0x80, 0x80, 0xC3, 0xA9], [0xEF, 0xBF, 0xBE], [0], [0xF0, 0x82, 0x82, 0xAC],
             [0xED, 0x9F, 0xBF], [0xEE, 0x80, 0x80], [0xC2], [0xDF, 0xBF, 0xBF]]
    lists = [[by_byte[b] for b in one] for one in fixed]
    for one in fixed[1:8]:                 # an incomplete character followed by a special token, and by text after it
        lists.append([by_byte[b] for b in one] + [len(ranks) + 8, by_byte[0x41]])
        lists.append([len(ranks)] + [by_byte[b] for b in one] + [len(ranks) + 7])
    while len(lists) < count:
        pool = rng.choice((range(len(ranks) + 93), range(len(ranks)), sorted(by_byte.values())))
        lists.append([rng.choice(pool) for _ in range(rng.randint(1, 12))])
    out = []
    for ids in lists:
        plain = b"".join(token.get(i, b"") for i in ids).decode("utf-8", "replace")
        named = b"".join(token.get(i) or names[i].encode() for i in ids).decode("utf-8", "replace")
        assert both.hf.decode(ids, skip_special_tokens=True) == plain, (ids, plain)
        assert both.hf.decode(ids, skip_special_tokens=False) == named, (ids, named)
        out.append({"ids": ids, "text": plain, "text_specials": named})
    return out


# --- files -------------------------------------------------------------------------------------------------

def lines(rows):
    return "".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\n" for r in rows)


def encode_all(both, texts):
    rows = []
    for text in texts:
        ids = both.plain(text)
        if ids is not None:
            rows.append({"text": text, "ids": ids})
    return rows


def special_cases(both):
    return [{"text": s, "plain": both.plain(s), "parsed": both.parsed(s), "bos": both.parsed(s, True)}
            for s in SPECIAL_TEXTS]


def small_files():
    ranks = train_small()
    specials = special_names(93)
    both = Both(ranks, specials)
    text = both.hf.to_str(pretty=False) + "\n"
    again = Tokenizer.from_str(old_merges(text))
    files = {"small/tokenizer.json": text, "small/tokenizer-old.json": old_merges(text)}
    rows = encode_all(both, strings(random.Random(11), 2000))
    again.encode_special_tokens = True
    assert all(again.encode(r["text"], add_special_tokens=False).ids == r["ids"] for r in rows)
    files["small/strings.jsonl"] = lines(rows)
    files["small/specials.jsonl"] = lines(special_cases(both))
    files["small/decode.jsonl"] = lines(decoding_cases(random.Random(12), both, ranks, 300))
    model = "".join(f"{base64.b64encode(t).decode()} {r}\n" for t, r in sorted(ranks.items(), key=lambda x: x[1]))
    files["small/tokenizer.model"] = model
    return files, both, len(rows)


def llama4_files(path):
    ranks = read_ranks(path)
    both = Both(ranks, special_names(2048))
    for text, want in VECTORS:
        assert both.plain(text) == [int(i) for i in want.split()], text
    rows = encode_all(both, strings(random.Random(13), 3000))
    return {"vectors.jsonl": lines({"text": t, "ids": [int(i) for i in w.split()]} for t, w in VECTORS),
            "strings.jsonl": lines(rows), "specials.jsonl": lines(special_cases(both))}, both, len(rows)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("model", nargs="?", default=os.environ.get("CRL_LLAMA4_TOKENIZER"))
    ap.add_argument("--check", action="store_true")
    args = ap.parse_args()
    print(f"tokenizers {tokenizers.__version__}, tiktoken {tiktoken.__version__}")
    jobs = [small_files] + ([lambda: llama4_files(args.model)] if args.model else [])
    bad = 0
    for job in jobs:
        files, both, n = job()
        print(f"{n} strings, the two tokenizers differ on {len(both.differ)}")
        for text, a, b in both.differ[:20]:
            print("  differ:", ascii(text), a, b)
        for name, text in files.items():
            path = os.path.join(HERE, name)
            if args.check:
                same = os.path.exists(path) and open(path, encoding="utf-8", newline="").read() == text
                bad += not same
                print(name, "same" if same else "DIFFERS")
            else:
                with open(path, "w", encoding="utf-8", newline="") as f:
                    f.write(text)
    return 3 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
