"""Small skills with checkable answers, asked in chat form.

Each maker takes a random.Random and returns (key, question, answer). The key names the problem itself, without its wording
where the wording could hide a repetition; `held_out` sends one key in ten to the held-out set, so that no held-out problem
occurs in training. The exception is `times`: the products up to 10 x 10 can only be known, not worked out, so there the
wording belongs to the key.
"""

import hashlib

import stories
from words import *

SYLLABLES = w(
    "ba be bi bo da de di do fa fe fi ga go ka ke ki ko la le li lo lu ma me mi mo mu na ne no nu pa pe po ra re ri ro sa se si so su ta te to va ve vi wa ze zo"
)


NUMERALS = [str(i) for i in range(100)]
SUMS = ("add", "subtract", "word_problem", "choice_math")  # a sum held out in one of them is held out in all


def held_out(task, key):
    task = "sum" if task in SUMS else task
    return hashlib.sha256(f"{task}\n{key}".encode()).digest()[0] < 26


def number(r):
    return r.randint(0, 9) if r.random() < 0.3 else r.randint(10, 99)


def add(r):
    a, b = number(r), number(r)
    q = r.choice(
        [
            "What is {a} + {b}?",
            "What is {a} plus {b}?",
            "Add {a} and {b}.",
            "{a} + {b} = ?",
            "Calculate {a} + {b}.",
            "How much is {a} plus {b}?",
        ]
    )
    return f"{min(a, b)}+{max(a, b)}", q.format(a=a, b=b), str(a + b)


def subtract(r):
    a, b = sorted((number(r), number(r)), reverse=True)
    q = r.choice(
        [
            "What is {a} - {b}?",
            "What is {a} minus {b}?",
            "Subtract {b} from {a}.",
            "{a} - {b} = ?",
            "Calculate {a} - {b}.",
            "How much is {a} minus {b}?",
        ]
    )
    return f"{a}-{b}", q.format(a=a, b=b), str(a - b)


def times(r):
    a, b = r.randint(0, 10), r.randint(0, 10)
    q = r.choice(
        [
            "What is {a} x {b}?",
            "What is {a} times {b}?",
            "Multiply {a} by {b}.",
            "{a} x {b} = ?",
            "Calculate {a} x {b}.",
            "How much is {a} times {b}?",
        ]
    ).format(a=a, b=b)
    return q, q, str(a * b)


def nonsense(r):
    return "".join(r.choice(SYLLABLES) for _ in range(r.randint(2, 3)))


def copy(r):
    n = r.randint(2, 7)
    kind = r.randint(0, 4)
    item = [
        lambda: r.choice(PLAIN_NOUNS),
        lambda: nonsense(r),
        lambda: str(r.randint(0, 999)),
        lambda: r.choice("abcdefghijklmnopqrstuvwxyz"),
        lambda: r.choice([r.choice(PLAIN_NOUNS), nonsense(r), str(r.randint(0, 99))]),
    ][kind]
    s = " ".join(item() for _ in range(n))
    q = r.choice(
        [
            "Repeat: {s}",
            "Copy this text: {s}",
            "Say exactly this: {s}",
            "Write the following once more: {s}",
            "Repeat after me: {s}",
        ]
    )
    return s, q.format(s=s), s


def lookup(r):
    n = r.randint(3, 6)
    names = r.sample(GIRLS + BOYS, n)
    kind = r.randint(0, 5)
    if kind == 0:
        values = [str(v) for v in r.sample(range(2, 100), n)]
        ask = "What is the number of {k}?"
        row = "{k}: {v}"
    elif kind == 1:
        values = r.sample(COLOURS, n)
        ask = "Which colour does {k} like?"
        row = "{k} likes {v}."
    elif kind == 2:
        values = r.sample(THINGS, n)
        ask = "What does {k} have?"
        row = "{k} has " + "a {v}."
        ask = r.choice(["What does {k} have?", "Which thing belongs to {k}?"])
    elif kind == 3:
        values = [x[4:] for x in r.sample([x for x in PLACES if x.startswith("the ")], n)]
        ask = "Where is {k}?"
        row = "{k} is at the {v}."
    elif kind == 4:
        values = [str(v) for v in r.sample(range(3, 90), n)]
        ask = "How old is {k}?"
        row = "{k} is {v} years old."
    else:
        values = r.sample(ANIMALS, n)
        ask = "Which animal does {k} have?"
        row = "{k}: {v}"
    if kind == 2:
        rows = [f"{k} has {an(v)}." for k, v in zip(names, values)]
    else:
        rows = [row.format(k=k, v=v) for k, v in zip(names, values)]
    i = r.randrange(n)
    k, v = names[i], values[i]
    if r.random() < 0.25 and kind in (0, 5):
        q, a = f"Who has {'the number ' + v if kind == 0 else 'the ' + v}?", k
    elif r.random() < 0.25 and kind in (1, 4):
        q, a = (f"Who likes {v}?" if kind == 1 else f"Who is {v} years old?"), k
    else:
        q, a = ask.format(k=k), v
    # The value follows a space, as it does in the list: a word at the start of an answer has other tokens.
    if not a.isdigit():
        a = "It is " + a if a == k else ["", "It is {v}", "{a}", "At the {v}", "", "{a}"][kind].format(v=a, a=cap(an(a)))
    sep = r.choice(["\n", "\n", " "]) if kind in (1, 2, 3, 4) else "\n"
    if sep == "\n":
        rows = ["- " + x for x in rows]
    full = sep.join(rows) + ("\n\n" if sep == "\n" else " ") + q
    return full, full, a


def sort(r):
    if r.random() < 0.5:
        v = r.sample(range(0, 100), r.randint(3, 5))
        down = r.random() < 0.25
        out = sorted(v, reverse=down)
        q = r.choice(
            ["Sort these numbers from large to small: {s}"]
            if down
            else [
                "Sort these numbers: {s}",
                "Sort from small to large: {s}",
                "Put these numbers in order: {s}",
            ]
        )
        return f"{down}{sorted(v)}", q.format(s=", ".join(map(str, v))), ", ".join(map(str, out))
    v = r.sample(PLAIN_NOUNS, r.randint(3, 4))
    while len({x[:1] for x in v}) < len(v):
        v = r.sample(PLAIN_NOUNS, r.randint(3, 4))
    q = r.choice(
        ["Sort these words: {s}", "Put these words in alphabetical order: {s}", "Sort by the alphabet: {s}"]
    )
    return f"{sorted(v)}", q.format(s=", ".join(v)), ", ".join(sorted(v))


def compare(r):
    a, b = r.sample(range(0, 100), 2)
    big = r.random() < 0.5
    q = r.choice(["Which number is {w}, {a} or {b}?", "Which is {w}: {a} or {b}?"]).format(
        w=r.choice(["larger", "greater"]) if big else r.choice(["smaller", "less"]), a=a, b=b
    )
    return (
        f"{min(a, b)}{max(a, b)}{big}",
        q.replace("is less", "is smaller"),
        str(max(a, b) if big else min(a, b)),
    )


def pick(r):
    """The first, last or n-th of a list."""
    v = r.sample(PLAIN_NOUNS, r.randint(3, 6))
    i, word = r.choice([(0, "first"), (-1, "last"), (1, "second"), (2, "third")])
    q = r.choice(["What is the {w} word of this list: {s}?", "Tell me the {w} word: {s}"]).format(
        w=word, s=", ".join(v)
    )
    return word + str(v), q, v[i]


def count(r):
    n = r.randint(1, 8)
    what = r.choice(PLAIN_NOUNS)
    s = " ".join([what] * n)
    q = r.choice(
        [
            'How many times do you see the word "{x}" here: {s}',
            "Count the words: {s}",
            "How many words are these: {s}",
        ]
    ).format(x=what, s=s)
    return what + str(n), q, str(n)


def apples(r):
    """One-step word problems."""
    a = stories.Who(r, "child")
    b = stories.Who(r, "child", (a.name,))
    thing = r.choice(
        [
            plural(x)
            for x in FRUIT
            + ["coin", "marble", "button", "stamp", "nut", "stone", "card", "shell", "pencil", "egg"]
        ]
    )
    if r.random() < 0.5:
        x, y = number(r) + 1, r.randint(1, 20)
        s = r.choice(
            [
                f"{a.name} has {x} {thing}. {b.name} gives {a.him} {y} more. How many {thing} does {a.name} have now?",
                f"{a.name} has {x} {thing} and finds {y} more. How many {thing} does {a.name} have?",
                f"There are {x} {thing} in a basket. {a.name} puts in {y} more. How many {thing} are in the basket?",
            ]
        )
        return f"{min(x, y)}+{max(x, y)}", s, str(x + y)
    y = r.randint(1, 20)
    x = y + r.randint(0, 60)
    s = r.choice(
        [
            f"{a.name} has {x} {thing}. {a.He} gives {y} of them to {b.name}. How many {thing} does {a.name} have left?",
            f"{a.name} had {x} {thing} but lost {y}. How many {thing} are left?",
            f"There are {x} {thing} on the table. {b.name} takes {y} away. How many {thing} are left?",
        ]
    )
    return f"{x}-{y}", s, str(x - y)


def letters(r, question, right, wrong):
    """Four options in random order -> the question with options, and the letter."""
    opts = [right] + wrong[:3]
    r.shuffle(opts)
    return (
        question + "\n" + "\n".join(f"{l}. {o}" for l, o in zip("ABCD", opts)) + "\nAnswer:",
        "ABCD"[opts.index(right)],
    )


def wrong_numbers(r, n):
    c = [v for v in {n + d for d in (-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20)} if v >= 0]
    return [str(v) for v in r.sample(c, 3)]


def some_words(r, n=4):
    return r.sample(r.choice([PLAIN_NOUNS, GIRLS + BOYS, THINGS, ANIMALS, COLOURS, FRUIT, TOOLS, PLAIN_NOUNS + THINGS + ANIMALS]), n)


def choice_word(r):
    """Only finding a word among the options."""
    v = some_words(r)
    q = r.choice(["Which line says {w}?", "Which of these is {w}?", "Where do you read {w}?"]).format(w=v[0])
    full, letter = letters(r, q, v[0], v[1:])
    return str(sorted(v)), full, letter


def choice_words(r):
    """Many questions about one list of options, for training alone."""
    v = some_words(r)
    if held_out("choice_word", str(sorted(v))):
        return choice_words(r)
    w = r.choice(v)
    q = r.choice(["Which line says {w}?", "Which of these is {w}?", "Where do you read {w}?"]).format(w=w)
    turns = [(q + "\n" + "\n".join(f"{l}. {o}" for l, o in zip("ABCD", v)) + "\nAnswer:", "ABCD"[v.index(w)])]
    for _ in range(r.randint(2, 5)):
        w = r.choice(v)
        turns.append((r.choice(["And {w}?", "Which line says {w}?", "Where is {w}?"]).format(w=w), "ABCD"[v.index(w)]))
    return turns


def choice_math(r):
    key, q, a = r.choice([add, subtract])(r)
    full, letter = letters(r, q, a, wrong_numbers(r, int(a)))
    return key, full, letter


def choice_kind(r):
    """Which of these is a fruit?"""
    cats = list(CATEGORY)
    c = r.choice(cats)
    right = r.choice(CATEGORY[c])
    others = [x for d in cats if d != c for x in CATEGORY[d] if x not in CATEGORY[c]]
    q = r.choice([f"Which of these is {an(c)}?", f"Which word names {an(c)}?"])
    wrong = r.sample(others, 3)
    full, letter = letters(r, q, right, wrong)
    return c + right + str(sorted(wrong)), full, letter


def choice_fact(r):
    """Opposites, uses, young animals, days and months, habits."""
    k = r.randint(0, 4)
    if k == 0:
        x = r.choice(list(stories.OPPOSITES))
        q, a, pool = (
            f"What is the opposite of {x}?",
            stories.OPPOSITES[x],
            list(stories.OPPOSITES.values()) + list(stories.OPPOSITES),
        )
        pool = [y for y in pool if y != x]
    elif k == 1:
        x = r.choice(list(stories.USES))
        a = x
        q, pool = f"What do you need to {stories.USES[x]}?", [
            y for y in stories.USES if stories.USES[y] != stories.USES[x] and "warm" not in stories.USES[y]
        ]
    elif k == 2:
        x = r.choice(list(stories.BABIES))
        a = stories.BABIES[x]
        q, pool = f"What is a young {x} called?", list(stories.BABIES.values())
    elif k == 3:
        seq = r.choice([DAYS, MONTHS])
        i = r.randrange(len(seq))
        a = seq[(i + 1) % len(seq)]
        q, pool = f"What comes after {seq[i]}?", [y for y in seq if y != seq[i]]
    else:
        x = r.choice(list(stories.HABITS))
        a = x
        q, pool = f"Which animal {stories.HABITS[x]}?", list(stories.HABITS)
    pool = sorted({y for y in pool if y != a})
    wrong = r.sample(pool, 3)
    full, letter = letters(r, q, a, wrong)
    return q + a + str(sorted(wrong)), full, letter


def choice_context(r):
    """A few statements about people, then a question with options from the same statements."""
    n = 4
    names = r.sample(GIRLS + BOYS, n)
    k = r.randint(0, 2)
    if k == 0:
        v = r.sample(THINGS, n)
        rows = [f"{a} has {an(b)}." for a, b in zip(names, v)]
        ask = "What does {} have?"
    elif k == 1:
        v = r.sample(COLOURS, n)
        rows = [f"{a} likes {b}." for a, b in zip(names, v)]
        ask = "Which colour does {} like?"
    else:
        v = r.sample(PLACES, n)
        rows = [f"{a} is at {b}." for a, b in zip(names, v)]
        ask = "Where is {}?"
        v = ["at " + x for x in v]
    i = r.randrange(n)
    if k == 0:
        v = [an(x) for x in v]
    full, letter = letters(r, " ".join(rows) + " " + ask.format(names[i]), v[i], v[:i] + v[i + 1 :])
    return " ".join(rows) + names[i], full, letter


def read_turns(r):
    """A short story with a question, and further questions about it. The key is the story."""
    text, qs = stories.story(r, short=True)
    r.shuffle(qs)
    q, a = qs[0]
    form = r.choice(
        ["{t}\n\n{q}", "{t}\n\nQuestion: {q}", "Read this story and answer the question.\n\n{t}\n\n{q}"]
    )
    turns = [(form.format(t=text, q=q), cap(a))] + [(q, cap(a)) for q, a in qs[1:]]
    return text, turns


def read(r):
    key, turns = read_turns(r)
    return key, *turns[0]


def know(r):
    """Short questions about the facts of the stories, answered with a sentence."""
    k = r.randint(0, 6)
    S = stories
    if k == 0:
        x = r.choice(list(S.OPPOSITES))
        q, a = f"What is the opposite of {x}?", f"The opposite of {x} is {S.OPPOSITES[x]}."
    elif k == 1:
        x = r.choice(list(S.USES))
        q, a = f"What do you do with {an(x)}?", f"With {an(x)} you can {S.USES[x]}."
    elif k == 2:
        x = r.choice(list(S.BABIES))
        q, a = f"What is a young {x} called?", f"A young {x} is called {an(S.BABIES[x])}."
    elif k == 3:
        x = r.choice(list(S.HABITS))
        q, a = (
            r.choice([f"Tell me something about {an(x)}.", f"What do you know about {plural(x)}?"]),
            f"{cap(an(x))} {S.HABITS[x]}.",
        )
    elif k == 4:
        c = r.choice([c for c in CATEGORY if c not in ("colour",)])
        x = r.choice(CATEGORY[c])
        q, a = f"What is {an(x)}?" if x[0].islower() else f"What is {x}?", (
            f"{cap(an(x))} is {an(c)}." if x[0].islower() else f"{x} is {an(c)}."
        )
    elif k == 5:
        seq = r.choice([DAYS, MONTHS])
        i = r.randrange(len(seq))
        q, a = f"What comes after {seq[i]}?", f"After {seq[i]} comes {seq[(i + 1) % len(seq)]}."
    else:
        c, d = r.sample([c for c in FACT_CATS], 2)
        x = r.choice(CATEGORY[r.choice([c, d])])
        yes = x in CATEGORY[c]
        q, a = f"Is {an(x)} {an(c)}?", (f"Yes, {an(x)} is {an(c)}." if yes else f"No, {an(x)} is {an(d)}.")
    return q, q, a


FACT_CATS = list(stories.FACTS)

# name -> (maker, share among the skills)
TASKS = {
    "add": (add, 30),
    "subtract": (subtract, 20),
    "times": (times, 4),
    "copy": (copy, 3),
    "lookup": (lookup, 25),
    "sort": (sort, 10),
    "compare": (compare, 3),
    "pick": (pick, 1),
    "count": (count, 4),
    "word_problem": (apples, 6),
    "choice_word": (choice_word, 12),
    "choice_math": (choice_math, 6),
    "choice_kind": (choice_kind, 20),
    "choice_fact": (choice_fact, 16),
    "choice_context": (choice_context, 20),
    "read": (read, 6),
    "know": (know, 8),
}
CHANCE = {
    "choice_word": 0.25,
    "choice_math": 0.25,
    "choice_kind": 0.25,
    "choice_fact": 0.25,
    "choice_context": 0.25,
    "compare": 0.5,
}


def long_copy(r):
    """A longer copy, for training alone: looking back is the skill on which most others rest."""
    n = r.randint(8, 40)
    pool = r.choice([PLAIN_NOUNS, GIRLS + BOYS, PLAIN_NOUNS + THINGS + ANIMALS + COLOURS, None, None])
    items = [r.choice(pool) if pool else r.choice([nonsense(r), str(r.randint(0, 99))]) for _ in range(n)]
    s = r.choice([" ", " ", ", "]).join(items)
    q = r.choice(
        ["Repeat: {s}", "Copy this text: {s}", "Say exactly this: {s}", "Write the following once more: {s}"]
    )
    return q.format(s=s), s


def repeated(r):
    """Plain text that says the same list of words several times; the densest lesson in looking back."""
    pool = r.choice([PLAIN_NOUNS, GIRLS + BOYS, PLAIN_NOUNS + THINGS + ANIMALS + COLOURS, NUMERALS, None])
    s = " ".join(r.choice(pool) if pool else nonsense(r) for _ in range(r.randint(6, 24)))
    return r.choice([". ", "\n", " ; "]).join([s] * r.randint(2, 4))


def make(r, name, held):
    """One problem of the wanted side of the split."""
    while True:
        key, q, a = TASKS[name][0](r)
        if held_out(name, key) == held:
            return q, a


# ---- talk without a single right answer --------------------------------------------------------------------------------


def chat(r):
    """-> (question, answer)"""
    S = stories
    k = r.random()
    if k < 0.22:
        q = r.choice(
            [
                "Hi",
                "Hello",
                "Hello!",
                "Hi there!",
                "Good morning",
                "Good evening!",
                "Hey",
                "Hello, how are you?",
                "How are you?",
                "Good morning, how are you today?",
            ]
        )
        a = (
            r.choice(
                [
                    "Hello! How can I help you?",
                    "Hi! What would you like to do today?",
                    "Hello! It is nice to meet you.",
                ]
            )
            if "how" not in q.lower()
            else r.choice(
                [
                    "I am very well, thank you. How can I help you?",
                    "I am fine, thank you! What can I do for you?",
                ]
            )
        )
        return q, a
    if k < 0.34:
        return r.choice(
            [
                ("Who are you?", "I am a very small language model that runs on the CPU."),
                ("What is your name?", "My name is Corral. I am a small language model."),
                (
                    "What can you do?",
                    "I can tell short stories, add numbers, sort lists, copy text and answer simple questions.",
                ),
                ("Can you help me?", "Of course. What do you need?"),
                ("Thank you!", "You are welcome!"),
                ("Thanks", "You are welcome!"),
                ("Goodbye", "Goodbye! Have a nice day."),
                ("Bye!", "Goodbye! See you soon."),
                ("Are you a person?", "No, I am a small language model."),
                ("How big are you?", "I am very small. I have about eighteen million parameters."),
                ("Do you like stories?", "Yes, I like stories very much. Shall I tell you one?"),
                ("Good night", "Good night! Sleep well."),
                ("What do you like?", "I like short stories about animals and kind people."),
            ]
        )
    if k < 0.46:
        return (
            r.choice(
                [
                    "Tell me a story.",
                    "Tell me a short story.",
                    "Write a story.",
                    "Can you tell me a story?",
                    "Write a short story, please.",
                    "I want to hear a story.",
                ]
            ),
            S.story(r)[0],
        )
    if k < 0.78:
        kind = r.choice(["animal", "animal", "child", "adult"])
        a = S.Who(r, kind)
        q = r.choice(
            [
                "Tell me a story about {x}.",
                "Write a short story about {x}.",
                "Write a story about {x}.",
                "Please tell me a story about {x}.",
                "Can you tell me a story about {x}?",
            ]
        )
        x = r.choice(
            [an(a.noun), an(a.noun), f"{an(a.noun)} named {a.name}", f"{an(a.trait + ' ' + a.noun)}"]
        )
        t = S.story(r, a)[0]
        while a.name not in t:
            t = S.story(r, a)[0]
        return q.format(x=x), t
    if k < 0.86:
        return r.choice(
            ["Describe a place, a person or a thing.", "Write a short description.", "Describe something."]
        ), S.description(r)
    if k < 0.93:
        return r.choice(
            ["Write a dialogue.", "Write a short conversation.", "Write a conversation between two people."]
        ), S.dialogue(r)
    if k < 0.96:
        return r.choice(["Write a letter.", "Write a short letter to a friend."]), S.note(r)
    return r.choice(
        ["Tell me some facts.", "What do you know about the world?", "Teach me something."]
    ), S.facts_text(r)


if __name__ == "__main__":
    import random

    rng = random.Random(3)
    for name in TASKS:
        for _ in range(2):
            q, a = make(rng, name, False)
            print(f"[{name}] {q}\n   => {a}")
    for _ in range(8):
        print(chat(rng))
