"""Training and held-out documents: our own stories and tasks, and three public-domain texts.

A document is a list of (text, weight) or, for chats, of turns; see `encode`. Weights are counted in halves.
"""

import hashlib
import random
import re
import struct
import zlib

import stories
import tasks


def passages(paragraphs, joiner, limit):
    """Neighbouring paragraphs together, up to `limit` characters."""
    out, cur = [], ""
    for p in paragraphs:
        if cur and len(cur) + len(p) > limit:
            out.append(cur)
            cur = ""
        cur = cur + joiner + p if cur else p
    return out + [cur] if cur else out


def read_bible(path):
    """The output of Debian's `bible -f gen1:1-rev22:21`: one verse a line, after its reference."""
    verses = [line.split(" ", 1)[1].strip() for line in open(path, encoding="latin-1") if " " in line]
    return passages(verses, " ", 1200)


def read_austen(path):
    """The six novels in data/Rdata.rdb of Debian's r-cran-janeaustenr: zlib streams of serialised R strings."""
    raw, lines, at = open(path, "rb").read(), [], 0
    while at < len(raw):
        z = zlib.decompressobj()
        body = z.decompress(raw[at + 4 :])
        at = len(raw) - len(z.unused_data)
        i = body.find(b"\0\4\0\x09")
        while i >= 0 and body[i : i + 4] == b"\0\4\0\x09":
            n = struct.unpack(">i", body[i + 4 : i + 8])[0]
            lines.append(body[i + 8 : i + 8 + max(n, 0)].decode("utf-8", "replace"))
            i += 8 + max(n, 0)
        lines.append("")
    text = re.sub(r"_|\*", "", "\n".join(lines))
    paras = [" ".join(p.split()) for p in re.split(r"\n\s*\n", text)]
    return passages([p for p in paras if len(p) > 20], "\n\n", 1300)


def read_plays(path):
    """Speeches, separated by blank lines."""
    return passages([p.strip() for p in open(path).read().split("\n\n") if p.strip()], "\n\n", 900)


def book_held_out(text):
    return hashlib.sha256(text.encode()).digest()[0] < 5


def books(args):
    return {
        "bible": read_bible(args.bible),
        "austen": read_austen(args.austen),
        "shakespeare": read_plays(args.shakespeare),
    }


SYSTEM = [
    "You are a helpful assistant.",
    "Answer briefly.",
    "You are a small and friendly model.",
    "Answer with one word or number if you can.",
]


def skill_chat(r):
    """One to eight turns of tasks, as (role, text, weight)."""
    names, shares = list(tasks.TASKS), [s for _, s in tasks.TASKS.values()]
    turns = [("system", r.choice(SYSTEM), 0)] if r.random() < 0.08 else []
    for _ in range(r.choice([1, 1, 2, 4, 6, 8])):
        name = r.choices(names, shares)[0]
        if name == "read":
            while True:
                key, t = tasks.read_turns(r)
                if not tasks.held_out("read", key):
                    break
            for i, (q, a) in enumerate(t):
                turns += [("user", q, 2 if i == 0 else 0), ("assistant", a, 6)]
        else:
            q, a = tasks.make(r, name, False)
            turns += [("user", q, 0), ("assistant", a, 6)]
    return turns


def copy_chat(r):
    q, a = tasks.long_copy(r)
    return [("user", q, 0), ("assistant", a, 2)]


def choice_chat(r):
    turns = []
    for _ in range(2):
        for q, a in tasks.choice_words(r):
            turns += [("user", q, 0), ("assistant", a, 6)]
    return turns


def talk_chat(r):
    turns = [("system", r.choice(SYSTEM), 0)] if r.random() < 0.08 else []
    for _ in range(r.choice([1, 1, 2])):
        q, a = tasks.chat(r)
        turns += [("user", q, 0), ("assistant", a, 2)]
    if r.random() < 0.2:
        q, a = tasks.make(r, r.choice(list(tasks.TASKS)), False)
        turns += [("user", q, 0), ("assistant", a, 6)]
    return turns


def story_held_out(text):
    return hashlib.sha256(("story" + text).encode()).digest()[0] < 3


def own_text(r, held=False):
    while True:
        t = stories.text(r)
        if story_held_out(t) == held:
            return t


def held_out_text(args):
    """-> [(source, text)]"""
    r = random.Random(77)
    out = [("stories", own_text(r, True)) for _ in range(150)]
    for name, ps in books(args).items():
        held = [p for p in ps if book_held_out(p)]
        r.shuffle(held)
        out += [(name, p) for p in held[:40]]
    return out


def held_out_tasks(n=100):
    """-> [(task, question, answer)], distinct questions; fewer than n where a task has no more."""
    r = random.Random(78)
    out = []
    for name in tasks.TASKS:
        seen = {}
        for _ in range(4 * n):
            q, a = tasks.make(r, name, True)
            seen.setdefault(q, a)
            if len(seen) == n:
                break
        out += [(name, q, a) for q, a in seen.items()]
    return out
