"""Small drawn pictures with questions and exact answers: shapes, counts, numbers, bar charts, and pairs of pictures.

A scene is made from a random.Random alone, and drawing it needs only the scene, so a seed names a picture for good. Each
scene has a key, which names what is drawn without its fine position; `held_out` sends one key in ten to the held-out set:
a number, a set of bars or a placing of shapes that is held out is drawn in no picture of the training.
"""

import hashlib
import random
import struct
import zlib

import numpy as np

TILE = 84  # the side of a tile: image_size of the vision tower

COLOURS = {
    "red": (214, 36, 36),
    "green": (36, 158, 60),
    "blue": (40, 74, 214),
    "yellow": (240, 214, 30),
    "orange": (246, 136, 20),
    "purple": (132, 44, 168),
    "pink": (250, 150, 196),
    "brown": (122, 74, 34),
    "black": (14, 14, 14),
    "white": (250, 250, 250),
}
GROUNDS = [((255, 255, 255), "white"), ((226, 226, 222), "white"), ((196, 214, 226), "white"), ((38, 40, 52), "black")]
SHAPES = ["circle", "square", "triangle", "star", "cross", "ring", "diamond"]
PLACES = ["top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right"]

# Ten corners of a star in the unit circle, the first one up.
STAR = [
    (0.0, -1.0), (0.259, -0.357), (0.951, -0.309), (0.419, 0.136), (0.588, 0.809),
    (0.0, 0.44), (-0.588, 0.809), (-0.419, 0.136), (-0.951, -0.309), (-0.259, -0.357),
]  # fmt: skip

# Digits in 5 x 7 dots, one number per row, the highest bit on the left.
DIGITS = [
    (14, 17, 17, 17, 17, 17, 14),
    (4, 12, 4, 4, 4, 4, 14),
    (14, 17, 1, 2, 4, 8, 31),
    (30, 1, 1, 14, 1, 1, 30),
    (2, 6, 10, 18, 31, 2, 2),
    (31, 16, 30, 1, 1, 17, 14),
    (6, 8, 16, 30, 17, 17, 14),
    (31, 1, 2, 4, 8, 8, 8),
    (14, 17, 17, 14, 17, 17, 14),
    (14, 17, 17, 15, 1, 2, 12),
]


# ---- drawing -----------------------------------------------------------------------------------------------------------


def inside(shape, u, v):
    """Which of the points (u, v) lie in the shape of radius 1; v points down."""
    if shape == "circle":
        return u * u + v * v <= 0.92
    if shape == "square":
        return np.maximum(abs(u), abs(v)) <= 0.84
    if shape == "triangle":
        return (v <= 0.8) & (abs(u) <= 0.53 * (v + 1))
    if shape == "cross":
        return (np.minimum(abs(u), abs(v)) <= 0.3) & (np.maximum(abs(u), abs(v)) <= 0.95)
    if shape == "ring":
        d = u * u + v * v
        return (d <= 1) & (d >= 0.33)
    if shape == "diamond":
        return abs(u) * 1.25 + abs(v) <= 1
    hit = np.zeros(np.broadcast(u, v).shape, bool)
    for (x0, y0), (x1, y1) in zip(STAR, STAR[1:] + STAR[:1]):
        hit ^= ((y0 > v) != (y1 > v)) & (u < (x1 - x0) * (v - y0) / (y1 - y0) + x0)
    return hit


def paint(img, test, colour, x0, y0, x1, y1):
    """Mix colour into the box by the share of 4 x 4 points of each pixel for which test(x, y) is true."""
    h, w, _ = img.shape
    x0, y0, x1, y1 = max(int(x0), 0), max(int(y0), 0), min(int(x1) + 1, w), min(int(y1) + 1, h)
    if x1 <= x0 or y1 <= y0:
        return
    y = y0 + (np.arange((y1 - y0) * 4)[:, None] + 0.5) / 4
    x = x0 + (np.arange((x1 - x0) * 4)[None] + 0.5) / 4
    part = test(x, y).reshape(y1 - y0, 4, x1 - x0, 4).sum((1, 3))[..., None]
    box = img[y0:y1, x0:x1]
    box[:] = (box * (16 - part) + np.array(colour) * part + 8) // 16


def rectangle(img, colour, x0, y0, x1, y1):
    paint(img, lambda x, y: (x >= x0) & (x < x1) & (y >= y0) & (y < y1), colour, x0, y0, x1, y1)


def digits(img, colour, text, x0, y0, dot):
    for c in text:
        rows = np.array([[row >> (4 - k) & 1 for k in range(5)] for row in DIGITS[int(c)]], bool)
        paint(
            img,
            lambda x, y: rows[
                np.clip((y - y0) // dot, 0, 6).astype(int), np.clip((x - x0) // dot, 0, 4).astype(int)
            ]
            & (x >= x0) & (x < x0 + 5 * dot) & (y >= y0) & (y < y0 + 7 * dot),
            colour, x0, y0, x0 + 5 * dot, y0 + 7 * dot,
        )  # fmt: skip
        x0 += 6 * dot


def draw(s):
    """-> uint8 [h, w, 3]"""
    img = np.empty((s["h"], s["w"], 3), np.int32)
    img[:] = s["ground"]
    if s["kind"] == "shapes":
        for o in s["objects"]:
            x, y, r = o["x"], o["y"], o["r"]
            paint(img, lambda a, b: inside(o["shape"], (a - x) / r, (b - y) / r), o["rgb"], x - r, y - r, x + r, y + r)
    elif s["kind"] == "number":
        digits(img, s["rgb"], s["text"], s["x"], s["y"], s["dot"])
    else:
        left, low, unit, thick = s["left"], s["low"], s["unit"], s["thick"]
        rectangle(img, s["ink"], left - thick, low - 9.3 * unit, left, low + thick)
        rectangle(img, s["ink"], left - thick, low, s["w"] - 2, low + thick)
        for i in range(1, 10):
            long = 2 if i == 5 else 1
            rectangle(
                img,
                s["ink"],
                left - thick * (1 + 2 * long),
                low - i * unit - thick / 2,
                left,
                low - i * unit + thick / 2,
            )
        for i, b in enumerate(s["bars"]):
            x = left + s["gap"] + i * (s["gap"] + s["wide"])
            rectangle(img, b["rgb"], x, low - b["high"] * unit, x + s["wide"], low)
    return img.astype(np.uint8)


def png(img):
    """The bytes of a PNG file."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    h, w, _ = img.shape
    raw = b"".join(b"\0" + img[y].tobytes() for y in range(h))
    head = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


# ---- scenes ------------------------------------------------------------------------------------------------------------


def tint(r, rgb):
    return [min(255, max(0, c + r.randint(-12, 12))) for c in rgb]


def canvas(r, big):
    """A scene without content. Big ones need several tiles."""
    k = r.random()
    if big:
        h, w = r.choice([(168, 168), (168, 168), (84, 168), (168, 84), (r.randint(96, 168), r.randint(96, 168))])
    elif k < 0.7:
        h = w = TILE
    elif k < 0.85:
        h = w = r.randint(48, TILE)
    else:
        h, w = r.randint(60, TILE), r.randint(60, TILE)
    ground, like = r.choice(GROUNDS)
    return {"h": h, "w": w, "ground": tint(r, ground) if r.random() < 0.5 else list(ground), "like": like}


def some_colours(r, s, n):
    return r.sample([c for c in COLOURS if c != s["like"]], n)


def shapes_scene(r, big, n, kinds=None):
    """n shapes in different cells of a 3 x 3 grid. kinds: how many different (colour, shape) there are, or None."""
    s = canvas(r, big)
    s["kind"], s["objects"] = "shapes", []
    cells = sorted(r.sample(range(9), n))
    ch, cw = s["h"] / 3, s["w"] / 3
    half = min(ch, cw) / 2
    kit = [(r.choice(some_colours(r, s, 1)), r.choice(SHAPES)) for _ in range(kinds or n)]
    for i, cell in enumerate(cells):
        colour, shape = r.choice(kit) if kinds else kit[i]
        rad = half * (r.uniform(0.88, 1.0) if r.random() < 0.5 else r.uniform(0.5, 0.62))
        x = (cell % 3 + 0.5) * cw + r.uniform(-1, 1) * (cw / 2 - rad) * 0.9
        y = (cell // 3 + 0.5) * ch + r.uniform(-1, 1) * (ch / 2 - rad) * 0.9
        s["objects"].append(
            {"colour": colour, "shape": shape, "cell": cell, "r": rad, "x": x, "y": y, "rgb": tint(r, COLOURS[colour])}
        )
    return s


def number_scene(r, big, n=None):
    s = canvas(r, big)
    n = n or r.choice([1, 2, 2, 3, 3])
    s["kind"], s["text"] = "number", str(r.randint(10 ** (n - 1) if n > 1 else 0, 10**n - 1))
    most = min(s["w"] / (6 * n + 1), s["h"] / 9)
    s["dot"] = r.uniform(max(1.7, 0.5 * most), max(1.7, most))
    s["x"] = r.uniform(1, max(1, s["w"] - (6 * n - 1) * s["dot"] - 1))
    s["y"] = r.uniform(1, max(1, s["h"] - 7 * s["dot"] - 1))
    s["rgb"] = tint(r, COLOURS[r.choice([c for c in some_colours(r, s, 5) if s["like"] != "white" or c != "yellow"])])
    return s


def chart_scene(r, big):
    s = canvas(r, big)
    n = r.randint(2, 4)
    s["kind"] = "chart"
    s["ink"] = [60, 60, 60] if s["like"] == "white" else [210, 210, 210]
    s["thick"] = max(1.0, s["w"] / 84)
    s["left"], s["low"] = 6 * s["thick"], s["h"] - 3 * s["thick"]
    s["unit"] = s["low"] / 9.6
    room = (s["w"] - s["left"] - 2) / n
    s["gap"] = room * r.uniform(0.2, 0.45)
    s["wide"] = room - s["gap"]
    highs = r.sample(range(1, 10), n)
    s["bars"] = [{"colour": c, "high": k, "rgb": tint(r, COLOURS[c])} for c, k in zip(some_colours(r, s, n), highs)]
    return s


def key(s):
    if s["kind"] == "number":
        return s["text"]
    if s["kind"] == "chart":
        return " ".join(f"{b['colour']} {b['high']}" for b in s["bars"])
    return " ".join(f"{o['colour']} {o['shape']} {o['cell']}" for o in s["objects"])


def held_out(s):
    if s["kind"] == "number" and len(s["text"]) == 1:
        return False  # ten of them; in the held-out set only the picture is new
    return hashlib.sha256(f"picture\n{key(s)}".encode()).digest()[0] < 26


# ---- questions ---------------------------------------------------------------------------------------------------------


def a_thing(o):
    return f"{'an' if o['colour'][0] in 'aeiou' else 'a'} {o['colour']} {o['shape']}"


def cap(text):
    return text[:1].upper() + text[1:]


def yes(b):
    return "Yes" if b else "No"


def plural(shape):
    return shape + ("es" if shape == "cross" else "s")


def ask_shapes(r, s, which=""):
    """Questions about one picture of shapes; which: words such as ` in the first picture`. -> [(task, question, answer)]"""
    v = s["objects"]
    out = []
    one = {x: sum(o["shape"] == x for o in v) for x in SHAPES}
    col = {x: sum(o["colour"] == x for o in v) for x in COLOURS}
    both = {}
    for o in v:
        both[o["colour"], o["shape"]] = both.get((o["colour"], o["shape"]), 0) + 1
    o = r.choice(v)
    if len(v) == 1:
        out.append(
            (
                "colour",
                r.choice(["What colour is it", "Which colour do you see", "What colour is the shape"]) + which + "?",
                f"It is {o['colour']}.",
            )
        )
        out.append(
            (
                "shape",
                r.choice(["What shape is it", "Which shape do you see", "What shape is this"]) + which + "?",
                f"It is a {o['shape']}.",
            )
        )
    for o in v:
        if one[o["shape"]] == 1 and len(v) > 1:
            out.append(
                (
                    "colour",
                    r.choice(["What colour is the {}", "Which colour does the {} have"]).format(o["shape"])
                    + which
                    + "?",
                    f"It is {o['colour']}.",
                )
            )
        if col[o["colour"]] == 1 and len(v) > 1:
            out.append(
                (
                    "shape",
                    r.choice(["What shape is {}", "Which shape is {}", "What is the shape of the {} thing"]).format(
                        o["colour"]
                    )
                    + which
                    + "?",
                    f"It is a {o['shape']}.",
                )
            )
    o = r.choice(v)
    name = o["shape"] if one[o["shape"]] == 1 and r.random() < 0.6 else f"{o['colour']} {o['shape']}"
    if one[o["shape"]] == 1 or both[o["colour"], o["shape"]] == 1:
        out.append(("where", f"Where is the {name}{which}?", f"At the {PLACES[o['cell']]}."))
    cell = o["cell"] if r.random() < 0.75 else r.randrange(9)
    there = [x for x in v if x["cell"] == cell]
    out.append(
        (
            "at",
            r.choice(["What is at the {}", "What do you see at the {}"]).format(PLACES[cell]) + which + "?",
            cap(a_thing(there[0])) + "." if there else "Nothing.",
        )
    )
    shape = o["shape"] if r.random() < 0.5 else r.choice(SHAPES)
    out.append(("exist", f"Is there a {shape}{which}?", yes(one[shape] > 0)))
    if len(v) <= 3:
        names = [a_thing(x) for x in v]
        text = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
        out.append(
            (
                "describe",
                r.choice(
                    [
                        "What do you see",
                        "Describe the picture" if not which else "What do you see",
                        "What is" + ("" if which else " in the picture"),
                    ]
                )
                + which
                + "?",
                cap(text) + ".",
            )
        )
    if len(v) >= 2:
        a, b = r.sample(v, 2)
        if both[a["colour"], a["shape"]] == 1 and both[b["colour"], b["shape"]] == 1:
            na, nb = (f"the {x['shape'] if one[x['shape']] == 1 else x['colour'] + ' ' + x['shape']}" for x in (a, b))
            if a["cell"] % 3 != b["cell"] % 3:
                word, right = r.choice([("left", True), ("right", False)])
                out.append(
                    ("relation", f"Is {na} {word} of {nb}{which}?", yes((a["cell"] % 3 < b["cell"] % 3) == right))
                )
            if a["cell"] // 3 != b["cell"] // 3:
                word, up = r.choice([("above", True), ("below", False)])
                out.append(("relation", f"Is {na} {word} {nb}{which}?", yes((a["cell"] // 3 < b["cell"] // 3) == up)))
            if max(a["r"], b["r"]) > 1.35 * min(a["r"], b["r"]):
                big = r.random() < 0.5
                c = a if (a["r"] > b["r"]) == big else b
                out.append(
                    (
                        "size",
                        f"Which is {'larger' if big else 'smaller'}, {na} or {nb}{which}?",
                        f"The {c['shape'] if one[c['shape']] == 1 else c['colour'] + ' ' + c['shape']}.",
                    )
                )
    return out


def ask_count(r, s, which=""):
    v = s["objects"]
    out = [
        (
            "count",
            r.choice(["How many shapes are there", "How many shapes do you see", "Count the shapes"]) + which + "?",
            str(len(v)),
        )
    ]
    shape = r.choice(v)["shape"] if r.random() < 0.85 else r.choice(SHAPES)
    out.append(
        (
            "count",
            r.choice(["How many {} are there", "How many {} do you see", "Count the {}"]).format(plural(shape))
            + which
            + "?",
            str(sum(o["shape"] == shape for o in v)),
        )
    )
    colour = r.choice(v)["colour"]
    out.append(
        (
            "count",
            r.choice(["How many {} shapes are there", "How many shapes are {}"]).format(colour) + which + "?",
            str(sum(o["colour"] == colour for o in v)),
        )
    )
    return out


def ask_number(r, s, which=""):
    return [
        (
            "number",
            r.choice(["Which number do you see", "What number is written", "Which number is it"]) + which + "?",
            s["text"],
        )
    ]


def ask_chart(r, s, which=""):
    v = s["bars"]
    b = r.choice(v)
    return [
        ("chart_most", r.choice(["Which bar is the tallest", "Which bar is the highest"]) + which + "?", f"The {max(v, key=lambda x: x['high'])['colour']} bar."),
        ("chart_least", r.choice(["Which bar is the shortest", "Which bar is the lowest"]) + which + "?", f"The {min(v, key=lambda x: x['high'])['colour']} bar."),
        ("chart_value", r.choice(["How high is the {} bar", "What is the value of the {} bar"]).format(b["colour"]) + which + "?", str(b["high"])),
        ("chart_count", "How many bars are there" + which + "?", str(len(v))),
    ]  # fmt: skip


def pair(r, make):
    """Two pictures and questions about both. make(maker) gives a scene of the wanted set."""
    k = r.randrange(4)
    out = []
    order = ["The first.", "The second."]
    names = [" in the first picture", " in the second picture"]
    if k == 0:
        a = make(lambda: shapes_scene(r, False, 1))
        b = make(lambda: shapes_scene(r, False, 1))
        if r.random() < 0.5:  # something in common more often than by chance
            want = r.choice(["shape", "colour"])
            b = make(lambda: shapes_scene(r, False, 1), lambda s: s["objects"][0][want] == a["objects"][0][want])
        x, y = a["objects"][0], b["objects"][0]
        out.append(("pair_same", "Do both pictures show the same shape?", yes(x["shape"] == y["shape"])))
        out.append(("pair_same", "Do both pictures show the same colour?", yes(x["colour"] == y["colour"])))
    elif k == 1:
        a, b = (make(lambda: shapes_scene(r, r.random() < 0.15, r.randint(1, 3))) for _ in range(2))
    elif k == 2:
        a, b = (make(lambda: shapes_scene(r, False, r.randint(1, 6), r.randint(1, 2))) for _ in range(2))
        if len(a["objects"]) != len(b["objects"]):
            more = r.random() < 0.6
            out.append(
                (
                    "pair_count",
                    f"Which picture has {'more' if more else 'fewer'} shapes?",
                    order[(len(a["objects"]) > len(b["objects"])) != more],
                )
            )
        out += ask_count(r, a, names[0])[:1] + ask_count(r, b, names[1])[:1]
        r.shuffle(out)
        return [a, b], [("pair_count", q, x) for _, q, x in out]
    else:
        n = r.choice([1, 2, 2])
        a, b = (make(lambda: number_scene(r, False, n)) for _ in range(2))
        if a["text"] != b["text"]:
            big = r.random() < 0.6
            out.append(
                (
                    "pair_number",
                    f"Which picture shows the {'larger' if big else 'smaller'} number?",
                    order[(int(a["text"]) > int(b["text"])) != big],
                )
            )
        out += [("pair_number", q, x) for s, n in zip((a, b), names) for _, q, x in ask_number(r, s, n)]
        r.shuffle(out)
        return [a, b], out
    for s, name, other in ((a, names[0], b), (b, names[1], a)):
        o = r.choice(s["objects"])
        if all(x["shape"] != o["shape"] for x in other["objects"]):
            out.append(("pair_find", f"Which picture shows a {o['shape']}?", order[s is b]))
        if all(x["colour"] != o["colour"] for x in other["objects"]):
            out.append(("pair_find", f"Which picture shows something {o['colour']}?", order[s is b]))
        out += [("pair_ask", q, x) for t, q, x in ask_shapes(r, s, name) if t in ("colour", "shape", "where")][:2]
    r.shuffle(out)
    return [a, b], out


EASY = {"one": 20, "few": 60, "number1": 10, "few_big": 10}
FULL = {
    "one": 6,
    "few": 24,
    "count": 14,
    "number": 14,
    "chart": 14,
    "few_big": 8,
    "count_big": 5,
    "number_big": 5,
    "chart_big": 5,
    "pair": 18,
}


def document(seed, mix, held):
    """Pictures and questions by number. -> (scenes, [(task, question, answer)] in random order)"""
    r = random.Random(f"{seed} {sorted(mix)} {held}")
    name = r.choices(list(mix), list(mix.values()))[0]

    def make(maker, extra=lambda s: True):
        while True:
            s = maker()
            if held_out(s) == held and extra(s):
                return s
            if held and s["kind"] == "number" and len(s["text"]) == 1 and extra(s):
                return s

    if name == "pair":
        while True:
            scenes, asked = pair(r, make)
            if asked:
                return scenes, asked
    big = name.endswith("_big")
    kind = name.removesuffix("_big")
    if kind == "one":
        s = make(lambda: shapes_scene(r, big, 1))
        asked = ask_shapes(r, s)
    elif kind == "few":
        s = make(lambda: shapes_scene(r, big, r.choice([2, 2, 3, 3, 4])))
        asked = ask_shapes(r, s) + ask_count(r, s)[:1]
    elif kind == "count":
        s = make(lambda: shapes_scene(r, big, r.randint(1, 7), r.choice([1, 2, 2, 3])))
        asked = ask_count(r, s)
    elif kind == "number" or kind == "number1":
        s = make(lambda: number_scene(r, big, 1 if kind == "number1" else None))
        asked = ask_number(r, s)
    else:
        s = make(lambda: chart_scene(r, big))
        asked = ask_chart(r, s)
    r.shuffle(asked)
    return [s], [(t, q[:-1] + "." if q.startswith(("Count", "Describe")) else q, a) for t, q, a in asked]
