"""Short simple English texts: stories with coherent characters, dialogues, descriptions, small facts, notes.

Every function takes a random.Random and returns text; `story` also returns questions with their answers. All sentences
are our own and were written for this generator.
"""

from words import *


class Who:
    """A character: a child, a grown-up with a trade, or an animal with a name."""

    def __init__(self, rng, kind=None, taken=()):
        kind = kind or rng.choice(["child", "child", "child", "adult", "animal", "animal"])
        self.female = rng.random() < 0.5
        names = [
            n
            for n in (GIRLS if self.female else BOYS) + (PET_NAMES if kind == "animal" else []) * 3
            if n not in taken
        ]
        self.name = rng.choice(names)
        self.he, self.him, self.his = ("she", "her", "her") if self.female else ("he", "him", "his")
        self.kind = kind
        self.trait = rng.choice(KINDS)
        if kind == "child":
            self.noun = "girl" if self.female else "boy"
            self.trait = rng.choice([self.trait, "little", "young", "small"])
        elif kind == "adult":
            self.noun = rng.choice([j for j in JOBS if not (self.female and j.endswith("man"))])
            self.trait = rng.choice([self.trait, "old", "young"])
        else:
            self.noun = rng.choice([x for x in ANIMALS if x not in ("hen", "kitten", "puppy", "lamb")])
            self.trait = rng.choice([self.trait, "young", "small", "little"])
        self.He = cap(self.he)
        self.His = cap(self.his)

    def intro(self):
        return f"{an(self.trait + ' ' + self.noun)} named {self.name}"


def opening(r, a):
    """One or two sentences that bring the hero in."""
    home, area = r.choice(HOMES), r.choice(AREAS)
    s = [
        f"Once upon a time there was {a.intro()}. {a.He} lived in {home} {area}.",
        f"There once was {a.intro()} who lived in {home} {area}.",
        f"{a.name} was {an(a.trait + ' ' + a.noun)}. {a.He} lived in {home} {area}.",
        f"In {home} {area} lived {a.intro()}.",
        f"Long ago, {a.intro()} lived in {home} {area}.",
        f"{cap(a.intro())} lived {area}.",
        f"This is the story of {a.name}, {an(a.trait + ' ' + a.noun)} who lived {area}.",
    ]
    extra = [
        "",
        "",
        f" Everyone knew {a.him} and liked {a.him}.",
        f" {a.He} loved the smell of the morning air.",
        f" {a.He} got up early every day.",
        f" {a.He} did not have many friends yet.",
        f" {a.His} days were quiet and simple.",
        (
            f" {a.He} liked to sing while {a.he} worked."
            if a.kind == "adult"
            else f" {a.He} liked to sing while {a.he} walked."
        ),
    ]
    return r.choice(s) + r.choice(extra)


def when(r):
    return r.choice(
        [
            "One day",
            "One morning",
            "One sunny morning",
            "One rainy afternoon",
            "One cold evening",
            f"One {r.choice(DAYS)}",
            "Early one morning",
            f"One {r.choice(SEASONS)} day",
            "Late one afternoon",
            "On a windy day",
            f"One day in {r.choice(MONTHS)}",
            "After breakfast",
            "Just before sunset",
            "One quiet night",
            f"On {r.choice(DAYS)} morning",
        ]
    )


def weather(r):
    return r.choice(
        [
            "The sun was shining and the sky was blue.",
            "It was raining, and the streets were wet.",
            "Snow lay on the roofs.",
            "The wind was strong and the clouds moved fast.",
            "The air was warm and smelled of flowers.",
            "There was a thick fog.",
            "It was so hot that even the birds were silent.",
            "Thunder rolled far away.",
            "The leaves were turning red and yellow.",
            "The moon was bright.",
            "A soft rain fell on the fields.",
            "It was a cold but clear day.",
            "The grass was wet with dew.",
            "",
        ]
    )


def ending(r, a, b=None):
    s = [
        f"{a.name} went home with a smile.",
        f"That night {a.name} slept very well.",
        f"{a.name} never forgot that day.",
        f"And {a.name} was happy.",
        f"{a.He} told the story to {a.his} family at dinner.",
        f"{a.name} felt proud of {a.him}self." if not a.female else f"{a.name} felt proud of herself.",
        f"It was the best day {a.name} could remember.",
        f"From that day on, {a.name} was a little wiser.",
        "The sun went down, and everything was quiet again.",
    ]
    if b:
        s += [
            f"From then on, {a.name} and {b.name} were good friends.",
            f"{a.name} and {b.name} laughed and went home together.",
            f"{a.name} and {b.name} met every {r.choice(DAYS)} after that.",
            f"{b.name} smiled, and {a.name} smiled too.",
            f"{a.name} thanked {b.name} and gave {b.him} a hug.",
        ] * 2
    return r.choice(s)


def adjective_thing(r):
    colour, thing = r.choice(COLOURS), r.choice(THINGS)
    adj = r.choice([colour, colour, f"{r.choice(SIZES)} {colour}", f"{r.choice(LOOKS)} {colour}"])
    return colour, thing, f"{adj} {thing}"


def talk(r, who, text):
    """A line of direct speech."""
    end = text[-1]
    body = text[:-1]
    verb = {
        "?": r.choice(["asked", "asked", "wondered"]),
        "!": r.choice(["cried", "called", "shouted", "said"]),
    }.get(end, r.choice(["said", "said", "answered", "replied"] if len(text) > 12 else ["said"]))
    inner = body + ("," if end == "." else end)
    return r.choice(
        [
            f'"{inner}" {verb} {who.name}.',
            f'"{inner}" {who.he} {verb}.' if verb == "said" else f'"{inner}" {verb} {who.name}.',
            f'{who.name} {verb}, "{text}"',
        ]
    )


# ---- plots: each returns (sentences, questions) ------------------------------------------------------------------------


def plot_lost(r, a, b):
    colour, thing, desc = adjective_thing(r)
    where = r.choice(HIDDEN)
    giver = r.choice(RELATIVES)
    s = [
        opening(r, a),
        r.choice(
            [
                f"{a.name} had {an(desc)} that {a.his} {giver} had given {a.him}.",
                f"{a.His} favourite thing was {an(desc)}, a gift from {a.his} {giver}.",
            ]
        ),
        r.choice(
            [
                f"{when(r)}, the {thing} was gone.",
                f"{when(r)}, {a.name} could not find the {thing}.",
                f"{when(r)}, {a.he} saw that the {thing} was missing.",
            ]
        ),
        weather(r),
        r.choice(
            [
                talk(r, a, f"Where is my {thing}?"),
                talk(r, a, f"Oh no, I have lost my {thing}!"),
                f"{a.name} looked everywhere and began to cry.",
            ]
        ),
        r.choice(
            [
                f"{a.He} looked in every room, but it was not there.",
                f"{a.He} asked everyone, but nobody had seen it.",
                f"{a.He} searched for hours.",
            ]
        ),
        r.choice(
            [
                f"Then {b.name} the {b.noun} came by and asked what was wrong.",
                f"{a.His} friend {b.name}, {an(b.trait + ' ' + b.noun)}, came to help.",
            ]
        ),
        r.choice(
            [
                talk(r, b, "Let us look together."),
                talk(r, b, "Do not worry, we will find it."),
                talk(r, b, "When did you last see it?"),
            ]
        ),
        r.choice(
            [
                f"In the end {b.name} found the {thing} {where}.",
                f"After a while, {b.name} found it {where}.",
                f"{b.name} found the {thing} {where}.",
            ]
        ),
        r.choice(
            [
                talk(r, a, "Thank you so much!"),
                f"{a.name} jumped for joy.",
                f"{a.name} was so glad that {a.he} could not speak.",
            ]
        ),
        ending(r, a, b),
    ]
    q = [
        (
            f"What did {a.name} lose?",
            f"a {colour} {thing}" if colour[0] not in "aeiou" else f"an {colour} {thing}",
        ),
        (f"Who found the {thing}?", b.name),
        (f"Where was the {thing}?", where),
        (f"What colour was the {thing}?", colour),
        (f"Who gave {a.name} the {thing}?", f"{a.his} {giver}"),
    ]
    return s, q


def plot_trip(r, a, b):
    place = r.choice(PLACES)
    by = r.choice(["by " + v for v in ("bus", "train", "boat", "bicycle", "car", "tram")] + ["on foot"])
    food = r.choice(FOOD)
    saw = r.choice(ANIMALS)
    n = r.randint(2, 9)
    num = ["", "", "two", "three", "four", "five", "six", "seven", "eight", "nine"][n]
    s = [
        opening(r, a),
        r.choice(
            [f"{when(r)}, {a.he} wanted to go to {place}.", f"{when(r)}, {a.name} decided to visit {place}."]
        ),
        weather(r),
        r.choice(
            [
                f"{a.He} asked {b.name} to come along.",
                talk(r, a, f"{b.name}, will you come with me?"),
                f"{a.His} friend {b.name} came too.",
            ]
        ),
        r.choice(
            [
                f"They went {by} and sang songs on the way.",
                f"They travelled {by}.",
                (
                    f"It was a long way, so they went {by}."
                    if by != "on foot"
                    else "It was not far, so they went on foot."
                ),
            ]
        ),
        r.choice(
            [
                f"At {place} they saw {num} {plural(saw)}.",
                f"When they came to {place}, they counted {num} {plural(saw)}.",
            ]
        ),
        r.choice(
            [
                talk(r, b, f"Look, so many {plural(saw)}!"),
                f"{b.name} laughed and pointed at them.",
                f"{a.name} had never seen anything like it.",
            ]
        ),
        r.choice(
            [
                f"At noon they were hungry and ate {food}.",
                f"They sat down under a tree and ate {food}.",
                f"{b.name} had brought {food}, and they shared it.",
            ]
        ),
        r.choice(
            [
                "Then they lay in the grass and looked at the clouds.",
                "They played until the sky grew dark.",
                "Soon it was time to go home.",
                f"On the way back {b.name} fell asleep.",
            ]
        ),
        ending(r, a, b),
    ]
    q = [
        (f"Where did {a.name} go?", f"to {place}"),
        (f"Who went with {a.name}?", b.name),
        ("How did they travel?", by),
        ("What did they eat?", food),
        (f"How many {plural(saw)} did they see?", num),
    ]
    return s, q


def plot_gift(r, a, b):
    colour, thing, desc = adjective_thing(r)
    shop = r.choice(["the market", "the shop", "the fair", "the old shop on the corner"])
    n = r.randint(3, 20)
    mood = r.choice(["happy", "surprised", "thankful", "excited"])
    s = [
        opening(r, a),
        r.choice(
            [
                f"{a.His} friend {b.name}, {an(b.trait + ' ' + b.noun)}, had a birthday on {r.choice(DAYS)}.",
                f"Soon it would be the birthday of {b.name} the {b.noun}.",
            ]
        ),
        r.choice(
            [talk(r, a, "What can I give my friend?"), f"{a.name} thought for a long time about a gift."]
        ),
        r.choice(
            [
                f"{a.He} took {n} coins and went to {shop}.",
                f"{a.He} had saved {n} coins, so {a.he} went to {shop}.",
            ]
        ),
        weather(r),
        r.choice([f"There {a.he} saw {an(desc)}.", f"Between old books and boxes {a.he} saw {an(desc)}."]),
        r.choice(
            [
                talk(r, a, f"How much is this {thing}?"),
                talk(r, a, f"This {thing} is just right!"),
                f"{a.name} knew at once that it was the right one.",
            ]
        ),
        r.choice(
            [
                f"{a.He} paid, wrapped the {thing} in paper and ran to {b.name}.",
                f"{a.He} bought it and tied a ribbon around it.",
            ]
        ),
        r.choice(
            [
                f"When {b.name} opened the gift, {b.he} was very {mood}.",
                f"{b.name} opened the paper slowly. {b.He} was {mood}.",
            ]
        ),
        r.choice(
            [
                talk(r, b, f"I have always wanted such {an(thing)}!"),
                talk(r, b, "This is the best gift of all."),
                talk(r, b, "How kind of you!"),
            ]
        ),
        ending(r, a, b),
    ]
    q = [
        (f"What did {a.name} buy?", an(f"{colour} {thing}")),
        (f"Who had a birthday?", b.name),
        (f"How many coins did {a.name} have?", str(n)),
        (f"How did {b.name} feel?", mood),
        (f"What colour was the {thing}?", colour),
        (f"Where did {a.name} go?", f"to {shop}"),
    ]
    return s, q


def plot_build(r, a, b):
    what, parts = r.choice(
        [
            ("a kite", "paper and string"),
            ("a boat", "wood and rope"),
            ("a bird house", "boards and nails"),
            ("a sledge", "wood and iron"),
            ("a tree house", "branches and rope"),
            ("a raft", "logs and rope"),
            ("a scarecrow", "straw and an old coat"),
            ("a lantern", "glass and wire"),
            ("a toy train", "tin and paint"),
            ("a snowman", "snow and a carrot"),
            ("a bench", "stone and wood"),
            ("a small bridge", "stones and boards"),
        ]
    )
    n = r.randint(2, 9)
    num = ["", "", "two", "three", "four", "five", "six", "seven", "eight", "nine"][n]
    trouble = r.choice(
        [
            "it broke in the middle",
            "it fell over",
            "the wind blew it away",
            "one side was too short",
            "the paint was still wet",
        ]
    )
    colour = r.choice(COLOURS)
    s = [
        opening(r, a),
        r.choice(
            [
                f"{when(r)}, {a.name} wanted to build {what}.",
                f"{when(r)}, {a.he} had an idea: {a.he} would make {what}.",
            ]
        ),
        r.choice(
            [f"{a.He} took {parts} and began.", f"{a.He} needed {parts}, and {a.he} found them in the barn."]
        ),
        r.choice([f"{a.He} worked for {num} hours.", f"The work took {num} hours."]),
        r.choice([f"But {trouble}.", f"When it was almost done, {trouble}."]),
        r.choice(
            [
                f"{a.name} was sad and sat down.",
                talk(r, a, "I will never finish it."),
                f"{a.name} wanted to give up.",
            ]
        ),
        r.choice(
            [
                f"{b.name} the {b.noun} saw this and came over.",
                f"Just then {b.name}, {an(b.trait + ' ' + b.noun)}, walked by.",
            ]
        ),
        r.choice(
            [
                talk(r, b, "Try once more, and I will hold it for you."),
                talk(r, b, "Every builder makes mistakes."),
                talk(r, b, "Let me help you."),
            ]
        ),
        r.choice(["They started again, slowly and carefully.", "Together they tried again."]),
        r.choice(
            [
                f"At last it was ready, and they painted it {colour}.",
                f"When it was done, they painted it {colour}.",
            ]
        ),
        ending(r, a, b),
    ]
    q = [
        (f"What did {a.name} build?", what),
        (f"Who helped {a.name}?", b.name),
        ("How many hours did it take?", num),
        ("What colour did they paint it?", colour),
        (f"What did {a.name} use?", parts),
    ]
    return s, q


def plot_rescue(r, a, b):
    b = Who(r, "animal", (a.name,))
    trouble, tool, deed = r.choice(
        [
            ("had fallen into a deep hole", "a rope", "pulled"),
            ("was stuck in the mud", "a long branch", "pulled"),
            ("was caught in a net", "a sharp stone", "cut"),
            ("was sitting on a tree and could not come down", "a ladder", "carried"),
            ("was swimming in the cold river and could not reach the bank", "a rope", "pulled"),
            ("was trapped under a fallen branch", "a strong pole", "lifted"),
        ]
    )
    free = {
        "pulled": f"pulled {b.name} out",
        "cut": f"cut {b.name} free",
        "carried": f"carried {b.name} down",
        "lifted": f"lifted the branch off {b.name}",
    }[deed]
    place = r.choice(PLACES)
    gift = r.choice(THINGS)
    s = [
        opening(r, a),
        r.choice([f"{when(r)}, {a.he} was walking near {place}.", f"{when(r)}, {a.name} went to {place}."]),
        weather(r),
        r.choice(
            [
                f"Suddenly {a.he} heard a cry for help.",
                f"Then {a.he} heard a small voice.",
                "Something moved close by.",
            ]
        ),
        f"It was {b.name}, {an(b.trait + ' ' + b.noun)}, who {trouble}.",
        r.choice(
            [
                talk(r, b, "Please help me!"),
                talk(r, b, "Can anybody hear me?"),
                talk(r, a, "Wait, I will help you!"),
                talk(r, a, "Do not be afraid."),
            ]
        ),
        r.choice(
            [
                f"{a.name} ran home and came back with {tool}.",
                f"{a.name} looked around and found {tool}.",
                f"{a.name} was afraid, but {a.he} took {tool} and went closer.",
            ]
        ),
        r.choice([f"With {tool} {a.he} {free}.", f"{a.He} used {tool} and {free}."]),
        r.choice(
            [
                talk(r, b, "You saved my life!"),
                talk(r, b, "I will never forget this."),
                f"{b.name} was cold and wet, but safe.",
            ]
        ),
        r.choice(
            [
                f"The next day {b.name} brought {a.him} {an(gift)}.",
                f"To say thank you, {b.name} gave {a.him} {an(gift)}.",
            ]
        ),
        ending(r, a, b),
    ]
    q = [
        (f"Who helped {b.name}?", a.name),
        (f"What did {a.name} use?", tool),
        (f"What kind of animal was {b.name}?", an(b.noun)),
        (f"What did {b.name} give {a.name}?", an(gift)),
        (f"Where was {a.name}?", f"near {place}" if "near " + place in " ".join(s) else f"at {place}"),
    ]
    return s, q


def plot_share(r, a, b):
    food = r.choice(FRUIT + VEGETABLES[:4])
    n, m = r.randint(4, 12), r.randint(1, 3)
    mood = r.choice(["hungry", "sad", "lonely", "tired"])
    place = r.choice(PLACES)
    s = [
        opening(r, a),
        r.choice(
            [
                f"{when(r)}, {a.name} picked {n} {plural(food)} and put them in a basket.",
                f"{when(r)}, {a.he} carried {n} {plural(food)} home from {place}.",
            ]
        ),
        weather(r),
        r.choice(
            [
                f"On the way {a.he} met {b.name}, {an(b.trait + ' ' + b.noun)}.",
                f"At {place} {a.he} met {b.name} the {b.noun}.",
            ]
        ),
        r.choice([f"{b.name} looked {mood}.", f"{b.name} was {mood} and sat on a stone."]),
        r.choice([talk(r, a, "What is the matter?"), talk(r, a, "Why do you look like that?")]),
        r.choice(
            [
                talk(r, b, "I have had nothing to eat today."),
                talk(r, b, "Nobody wants to talk to me."),
                talk(r, b, "I have walked all day long."),
            ]
        ),
        (
            f"{a.name} gave {b.him} {m} of the {plural(food)}, so {n - m} were left."
            if m > 1
            else f"{a.name} gave {b.him} one of the {plural(food)}, so {n - 1} were left."
        ),
        r.choice(
            [
                talk(r, b, "You are very kind."),
                f"{b.name} ate and felt much better.",
                talk(r, b, f"This is the best {food} I ever ate!"),
            ]
        ),
        r.choice(
            [
                f"Then they walked on together and talked about {r.choice(PLACES)}.",
                f"{b.name} told {a.him} a long story about {an(r.choice(ANIMALS))}.",
                f"Later {b.name} helped {a.him} carry the basket.",
            ]
        ),
        ending(r, a, b),
    ]
    q = [
        (f"How many {plural(food)} did {a.name} have at first?", str(n)),
        (f"How many {plural(food)} were left?", str(n - m)),
        (f"Who did {a.name} meet?", b.name),
        (f"How did {b.name} feel?", mood),
    ]
    return s, q


def plot_contest(r, a, b):
    kind, verb = r.choice(
        [
            ("a race", "ran"),
            ("a swimming race", "swam"),
            ("a singing contest", "sang"),
            ("a baking contest", "baked"),
            ("a drawing contest", "drew"),
            ("a chess game", "played"),
            ("a rowing race", "rowed"),
            ("a dancing contest", "danced"),
        ]
    )
    prize = an(f"{r.choice(COLOURS)} {r.choice(THINGS)}")
    day = r.choice(DAYS)
    first, second = (a, b) if r.random() < 0.5 else (b, a)
    s = [
        opening(r, a),
        r.choice([f"On {day} there was {kind} in the village.", f"There was going to be {kind} on {day}."]),
        f"The prize was {prize}.",
        r.choice(
            [
                f"{a.name} wanted to win, and so did {b.name} the {b.noun}.",
                f"{a.name} and {b.name}, {an(b.trait + ' ' + b.noun)}, both wanted the prize.",
            ]
        ),
        r.choice(
            [
                f"{a.name} practised every day.",
                f"{b.name} practised from morning to night.",
                "They both practised for weeks.",
            ]
        ),
        r.choice(
            [
                talk(r, b, "I am better than you!"),
                talk(r, a, "May the best of us win."),
                talk(r, b, "Good luck, my friend."),
            ]
        ),
        f"When the day came, {a.name} {verb} well, and {b.name} {verb} well too.",
        r.choice(
            [
                f"In the end, {first.name} won, and {second.name} came second.",
                f"It was very close, but {first.name} won.",
            ]
        ),
        r.choice(
            [
                f"{second.name} was sad at first, but then {second.he} shook hands with {first.name}.",
                talk(r, second, "You did very well."),
                f"{first.name} shared the joy with {second.name}.",
            ]
        ),
        ending(r, a, b),
    ]
    q = [
        ("Who won?", first.name),
        ("What was the prize?", prize),
        ("On which day was it?", day),
        ("Who did not win?", second.name),
    ]
    return s, q


def plot_fear(r, a, b):
    fear, true = r.choice(
        [
            ("a strange noise in the night", "the wind in the chimney"),
            ("a shadow on the wall", "a coat on a hook"),
            ("two bright eyes in the dark", "a cat on the fence"),
            ("a knock at the window", "a branch of the old tree"),
            ("a white shape in the garden", "a shirt on the line"),
            ("a deep growl behind the door", "a dog that was asleep"),
        ]
    )
    rel = r.choice(RELATIVES)
    light = r.choice(["a candle", "a lamp", "a lantern", "a torch"])
    s = [
        opening(r, a),
        r.choice([f"One night {a.name} could not sleep because of {fear}.", f"One night there was {fear}."]),
        r.choice(
            [
                f"{a.name} was afraid and hid under the blanket.",
                f"{a.His} heart beat fast.",
                talk(r, a, "Who is there?"),
            ]
        ),
        r.choice([f"{a.He} called {a.his} {rel}.", f"Then {a.his} {rel} came into the room."]),
        r.choice(
            [
                f'"Let us go and look," said {a.his} {rel}.',
                f'"You are not alone," said {a.his} {rel}. "We will look together."',
            ]
        ),
        f"They took {light} and went to see.",
        r.choice([f"It was only {true}!", f"There was nothing bad at all. It was only {true}."]),
        r.choice(
            [
                f"{a.name} began to laugh.",
                talk(r, a, "How silly of me!"),
                f"{a.name} was not afraid any more.",
            ]
        ),
        ending(r, a),
    ]
    q = [
        (f"What was it really?", true),
        (f"Who helped {a.name}?", f"{a.his} {rel}"),
        ("What did they take with them?", light),
    ]
    return s, q


def plot_garden(r, a, b):
    plant = r.choice(FLOWERS + VEGETABLES[:6] + FRUIT[:4])
    seed = r.choice(["a seed", "three seeds", "a handful of seeds"])
    thief = r.choice(["rabbit", "crow", "goat", "snail", "mouse", "hare"])
    month = r.choice(["March", "April", "May"])
    s = [
        opening(r, a),
        f"In {month}, {a.he} planted {seed} in the garden because {a.he} wanted to grow {plural(plant)}.",
        r.choice(
            [f"Every morning {a.he} gave them water.", f"{a.He} watered them and pulled out the weeds."]
        ),
        r.choice(
            [
                "For a long time nothing happened.",
                "At first there was only brown earth.",
                "Days passed, and weeks passed.",
            ]
        ),
        r.choice(
            [
                talk(r, a, "Why does nothing grow?"),
                f"{a.name} waited and waited.",
                f"{b.name} the {b.noun} told {a.him} to be patient.",
            ]
        ),
        r.choice(
            [
                "Then, after a warm rain, a small green leaf came up.",
                "One morning there were green leaves everywhere.",
            ]
        ),
        r.choice(
            [f"But {an(thief)} came and wanted to eat them.", f"Then {an(thief)} crept into the garden."]
        ),
        r.choice(
            [
                f"{a.name} built a little fence around the plants.",
                f"{a.name} gave the {thief} some bread, and it went away.",
                f"{b.name} helped {a.him} to build a fence.",
            ]
        ),
        f"In {r.choice(['July', 'August', 'September'])} the garden was full of {plural(plant)}.",
        r.choice(
            [
                f"{a.He} gave some of them to {b.name}.",
                f"{a.name} and {b.name} had a feast.",
                f"The neighbours came to look at them.",
            ]
        ),
        ending(r, a),
    ]
    q = [
        (f"What did {a.name} want to grow?", plural(plant)),
        ("Which animal came into the garden?", an(thief)),
        (
            (
                "When did " + a.name + " plant the seeds?"
                if seed != "a seed"
                else "When did " + a.name + " plant the seed?"
            ),
            f"in {month}",
        ),
    ]
    return s, q


def plot_cook(r, a, b):
    dish, ing = r.choice(
        [
            ("soup", ["carrots", "onions", "beans", "potatoes", "leeks"]),
            ("a cake", ["flour", "eggs", "sugar", "butter", "milk"]),
            ("bread", ["flour", "water", "salt", "yeast", "seeds"]),
            ("jam", ["plums", "sugar", "lemons", "cherries", "berries"]),
            ("a salad", ["tomatoes", "lettuce", "cucumbers", "oil", "herbs"]),
            ("porridge", ["oats", "milk", "honey", "nuts", "raisins"]),
        ]
    )
    used = r.sample(ing, 3)
    missing = r.choice(["salt", "sugar", "milk", "pepper", "honey"])
    s = [
        opening(r, a),
        r.choice(
            [
                f"{when(r)}, {a.name} wanted to make {dish} for {b.name} the {b.noun}.",
                f"{when(r)}, {a.he} made {dish} because {b.name}, {an(b.trait + ' ' + b.noun)}, was coming to dinner.",
            ]
        ),
        f"{a.He} took {listing(used)}.",
        r.choice(
            [f"First {a.he} washed {a.his} hands and put on an apron.", f"{a.He} read the old recipe twice."]
        ),
        r.choice(
            [
                f"But there was no {missing} in the house.",
                f"Then {a.he} saw that the {missing} was missing." if missing != "the" else "",
            ]
        ),
        r.choice(
            [f"{a.He} ran to the neighbour and asked for some.", f"{a.He} went to the shop and bought some."]
        ),
        r.choice(
            [
                "Soon a good smell filled the house.",
                "The pot began to sing on the fire.",
                "The kitchen became warm.",
            ]
        ),
        r.choice(
            [
                talk(r, b, "This smells wonderful!"),
                talk(r, b, "May I have some more?"),
                f"{b.name} ate two plates.",
            ]
        ),
        r.choice(
            [f"{a.name} was glad that {b.he} liked it.", f"After dinner they washed the dishes together."]
        ),
        ending(r, a, b),
    ]
    q = [
        (f"What did {a.name} make?", dish),
        (f"What was missing?", missing),
        (f"Who came to dinner?" if "dinner because" in s[1] else f"Who ate with {a.name}?", b.name),
        (f"What did {a.name} take?", listing(used)),
    ]
    return s, q


def plot_learn(r, a, b):
    skill = r.choice(
        [
            "swim",
            "read",
            "ride a bicycle",
            "play the flute",
            "whistle",
            "skate",
            "cook",
            "tie a knot",
            "paint",
            "count to one hundred",
            "climb trees",
            "row a boat",
            "sew",
            "dance",
            "play the drum",
            "fly a kite",
        ]
    )
    days = r.choice(["three days", "a week", "two weeks", "five days", "a month", "the whole summer"])
    s = [
        opening(r, a),
        r.choice(
            [
                f"{a.name} could not {skill}, and that made {a.him} sad.",
                f"More than anything, {a.name} wanted to learn to {skill}.",
            ]
        ),
        r.choice(
            [
                f"So {a.he} went to {b.name}, {an(b.trait + ' ' + b.noun)}.",
                f"{b.name} the {b.noun} knew how to {skill}.",
            ]
        ),
        r.choice(
            [
                talk(r, a, "Will you teach me?"),
                talk(r, a, "Is it hard to learn?"),
                talk(r, a, f"How did you learn to {skill}?"),
            ]
        ),
        r.choice(
            [
                talk(r, b, "It takes time, but it is not hard."),
                talk(r, b, "Yes, but you must try every day."),
                talk(r, b, "First watch me, then try it yourself."),
            ]
        ),
        r.choice(
            [
                f"On the first day nothing went well.",
                f"At first {a.name} made many mistakes.",
                f"{a.name} tried and failed and tried again.",
            ]
        ),
        r.choice(
            [
                talk(r, b, "Do not give up."),
                f"{b.name} was very patient.",
                f"Some others laughed at {a.him}, but {a.he} went on.",
            ]
        ),
        r.choice(
            [f"After {days} {a.name} could {skill}.", f"It took {days}, but then {a.name} could {skill}."]
        ),
        r.choice([talk(r, a, "I can do it!"), f"Everyone clapped.", f"{b.name} was as happy as {a.name}."]),
        ending(r, a, b),
    ]
    q = [
        (f"What did {a.name} learn?", f"to {skill}"),
        (f"Who taught {a.name}?", b.name),
        ("How long did it take?", days),
    ]
    return s, q


def plot_letter(r, a, b):
    place, rel = r.choice(PLACES), r.choice(RELATIVES)
    when_ = r.choice(
        [
            "at noon",
            "at midnight",
            "at sunset",
            "at six o'clock",
            "on Sunday",
            "on Friday evening",
            "before breakfast",
        ]
    )
    colour, thing, desc = adjective_thing(r)
    s = [
        opening(r, a),
        r.choice(
            [
                f"{when(r)}, {a.he} found a letter under the door.",
                f"{when(r)}, the postman brought {a.him} a letter.",
            ]
        ),
        r.choice(
            [
                f'It said: "Come to {place} {when_}."',
                f'In the letter was only one line: "Come to {place} {when_}."',
            ]
        ),
        r.choice(
            [
                "There was no name on it.",
                f"{a.name} did not know who had written it.",
                talk(r, a, "Who can have written this?"),
            ]
        ),
        r.choice(
            [
                f"{a.He} was a little afraid, but {a.he} was also curious.",
                f"{a.He} thought about it for a long time.",
            ]
        ),
        r.choice([f"So {a.he} put on {a.his} coat and went to {place}.", f"{cap(when_)}, {a.he} was there."]),
        weather(r),
        f"There stood {b.name}, {an(b.trait + ' ' + b.noun)}, with {an(desc)}.",
        r.choice(
            [
                talk(r, b, f"I wrote the letter, because this {thing} is for you."),
                talk(r, b, f"Your {rel} asked me to give you this {thing}."),
            ]
        ),
        r.choice(
            [
                talk(r, a, "What a surprise!"),
                f"{a.name} took the {thing} and held it tight.",
                f"{a.name} did not know what to say.",
            ]
        ),
        ending(r, a, b),
    ]
    q = [
        (f"Who wrote the letter?", b.name) if "I wrote" in s[8] else (f"Who had the {thing}?", b.name),
        (f"What did {b.name} have?", an(f"{colour} {thing}")),
        (f"Where did {a.name} go?", f"to {place}"),
        (f"When should {a.name} come?", when_),
    ]
    return s, q


def plot_sick(r, a, b):
    what = r.choice(["a cold", "a fever", "a bad cough", "a sore throat", "a hurt foot", "a headache"])
    drink = r.choice(["hot tea", "warm milk", "lemon water", "chicken soup", "honey and hot water"])
    thing = r.choice(["a book", "a song", "a long story", "a funny game", "a letter from the school"])
    day = r.choice(DAYS)
    s = [
        opening(r, a),
        f"On {day} {a.name} had {what} and had to stay in bed.",
        r.choice([f"{a.He} was bored and a little sad.", f"{a.He} looked out of the window all day."]),
        weather(r),
        r.choice(
            [
                f"In the afternoon {b.name} the {b.noun} came to visit.",
                f"Then there was a knock, and {b.name} came in.",
            ]
        ),
        r.choice(
            [
                talk(r, b, "How do you feel today?"),
                talk(r, b, "I heard that you are ill."),
                talk(r, a, "How good to see you!"),
            ]
        ),
        f"{b.He} brought {a.him} {drink} and {thing}.",
        r.choice(
            [f"They talked and laughed until it was dark.", f"{a.name} drank it all and soon felt warm."]
        ),
        r.choice(
            [f"After three days {a.name} was well again.", f"The next morning {a.name} felt much better."]
        ),
        ending(r, a, b),
    ]
    q = [
        (f"What was wrong with {a.name}?", f"{a.he} had {what}"),
        (f"Who came to visit?", b.name),
        (f"What did {b.name} bring?", f"{drink} and {thing}"),
        (f"When was {a.name} ill?", f"on {day}"),
    ]
    return s, q


def plot_wise(r, a, b):
    """A fable with a moral."""
    x, y = Who(r, "animal"), None
    y = Who(r, "animal", (x.name,))
    while y.noun == x.noun:
        y = Who(r, "animal", (x.name,))
    fault, moral, turn = r.choice(
        [
            (
                "boasted every day that nobody was faster",
                "Pride comes before a fall.",
                "fell over a stone while everyone was watching",
            ),
            (
                "never shared any food",
                "Those who give will also receive.",
                "had nothing left when the snow came, and had to ask for help",
            ),
            (
                "told lies to everybody",
                "Nobody believes a liar, even when he tells the truth.",
                "called for help, and nobody came",
            ),
            (
                "slept all summer and did no work",
                "Do today what you will need tomorrow.",
                "stood before an empty cupboard in the winter",
            ),
            (
                "laughed at everyone who was small",
                "Even small friends can be a great help.",
                "was caught in a net, and only the smallest could bite it open",
            ),
            (
                "wanted more and more and was never content",
                "Who wants too much loses everything.",
                "dropped it all into the deep river",
            ),
        ]
    )
    s = [
        f"{cap(x.intro())} lived near {r.choice(PLACES)}.",
        f"{x.He} {fault}.",
        r.choice(
            [
                f"{y.name} the {y.noun} warned {x.him} many times.",
                f"{x.His} neighbour {y.name}, {an(y.trait + ' ' + y.noun)}, shook {y.his} head.",
            ]
        ),
        r.choice([talk(r, y, "One day you will be sorry."), talk(r, y, "You should not do that.")]),
        r.choice([talk(r, x, "I do not care what you say."), f"But {x.name} did not listen."]),
        f"{when(r)}, {x.name} {turn}.",
        r.choice([f"{y.name} came and helped {x.him} all the same.", f"Only {y.name} was kind to {x.him}."]),
        r.choice([talk(r, x, "You were right, and I was wrong."), f"{x.name} was ashamed and said sorry."]),
        f"The moral of the story: {moral}",
    ]
    q = [
        (f"What kind of animal was {x.name}?", an(x.noun)),
        (f"Who warned {x.name}?", y.name),
        ("What is the moral of the story?", moral),
    ]
    return s, q


PLOTS = [
    plot_lost,
    plot_trip,
    plot_gift,
    plot_build,
    plot_rescue,
    plot_share,
    plot_contest,
    plot_fear,
    plot_garden,
    plot_cook,
    plot_learn,
    plot_letter,
    plot_sick,
    plot_wise,
]


def story(r, a=None, short=False):
    """-> (text, [(question, answer)]). short drops the sentences that no question needs, now and then."""
    plot = r.choice(PLOTS)
    a = a or Who(r)
    b = Who(r, taken=(a.name,))
    while b.noun == a.noun:
        b = Who(r, taken=(a.name,))
    s, q = plot(r, a, b)
    s = [x for x in s if x]
    if not short and r.random() < 0.3 and len(s) > 6:
        return " ".join(s[:4]) + "\n\n" + " ".join(s[4:]), q
    return " ".join(s), q


# ---- other kinds of text -----------------------------------------------------------------------------------------------

FACTS = {
    "animal": ["An animal can move and needs food."],
    "fruit": ["A fruit grows on a plant and is often sweet."],
    "vegetable": ["People eat vegetables raw or cooked."],
    "flower": ["Flowers grow in gardens and fields."],
    "tree": ["A tree has roots, a trunk and branches."],
    "tool": ["A tool helps people to do work."],
    "vehicle": ["A vehicle carries people or goods."],
    "musical instrument": ["You can make music with it."],
    "piece of furniture": ["You find it in a house."],
    "piece of clothing": ["People wear it."],
}
HABITS = {
    "fox": "has a long red tail and hunts at night",
    "rabbit": "has long ears and eats grass",
    "bear": "is strong and sleeps all winter",
    "mouse": "is small and eats seeds",
    "owl": "can see at night and eats mice",
    "frog": "lives near water and jumps far",
    "duck": "swims and has flat feet",
    "hedgehog": "has many sharp spines",
    "squirrel": "hides nuts for the winter",
    "otter": "swims well and eats fish",
    "wolf": "lives in a pack and howls",
    "goat": "climbs rocks and gives milk",
    "sheep": "gives us wool",
    "pig": "likes to roll in the mud",
    "cat": "catches mice and likes to sleep",
    "dog": "barks and guards the house",
    "horse": "runs fast and eats hay",
    "donkey": "carries heavy loads",
    "beaver": "builds dams from wood",
    "turtle": "walks slowly and carries its house",
    "hen": "lays eggs",
    "lion": "is called the king of the animals",
    "elephant": "is very big and has a long nose",
    "camel": "can live in the desert for days without water",
    "zebra": "has black and white stripes",
    "parrot": "can learn to speak",
    "penguin": "is a bird that cannot fly",
    "whale": "is the largest animal in the sea",
    "snail": "is very slow and carries its house",
    "bee": "makes honey",
    "ant": "is tiny but very strong",
    "spider": "has eight legs and makes a web",
    "butterfly": "has colourful wings",
    "eagle": "flies high and has sharp eyes",
    "mole": "digs tunnels under the ground",
}
USES = {
    "hammer": "drive a nail into wood",
    "saw": "cut wood",
    "shovel": "dig a hole",
    "rake": "gather leaves",
    "axe": "chop wood",
    "knife": "cut bread",
    "needle": "sew clothes",
    "broom": "sweep the floor",
    "bucket": "carry water",
    "ladder": "climb up to the roof",
    "lamp": "make light",
    "key": "open a door",
    "umbrella": "stay dry in the rain",
    "clock": "know the time",
    "pencil": "write a letter",
    "spoon": "eat soup",
    "kettle": "boil water",
    "map": "find the way",
    "bed": "sleep",
    "chair": "sit down",
    "boat": "cross a river",
    "blanket": "keep warm",
    "mirror": "see your own face",
    "brush": "paint a wall",
    "coat": "keep warm in winter",
    "rope": "tie things together",
    "candle": "make light",
    "telescope": "look at the stars",
    "compass": "find north",
    "oven": "bake bread",
}
OPPOSITES = dict(
    p.split()
    for p in """hot cold,big small,old new,wet dry,fast slow,happy sad,light dark,high low,strong weak,open closed,
full empty,early late,hard soft,long short,rich poor,clean dirty,near far,loud quiet,right wrong,young old,thick thin,wide narrow,true false,
good bad,left right,first last,up down,day night,black white,sweet sour,brave afraid,easy difficult,heavy light,inside outside""".split(
        ","
    )
)
BABIES = dict(
    p.split()
    for p in """dog puppy,cat kitten,sheep lamb,cow calf,horse foal,hen chick,goose gosling,duck duckling,bear cub,
deer fawn,frog tadpole,goat kid,pig piglet,lion cub,swan cygnet""".split(
        ","
    )
)
NUMBERS = w("zero one two three four five six seven eight nine ten eleven twelve")


def facts_text(r):
    out = []
    for _ in range(r.randint(3, 7)):
        k = r.randint(0, 8)
        if k <= 1:
            x = r.choice(list(HABITS))
            out.append(f"{cap(an(x))} {HABITS[x]}.")
        elif k == 2:
            x = r.choice(list(USES))
            out.append(r.choice([f"You need {an(x)} to {USES[x]}.", f"With {an(x)} you can {USES[x]}."]))
        elif k == 3:
            x = r.choice(list(OPPOSITES))
            out.append(f"The opposite of {x} is {OPPOSITES[x]}.")
        elif k == 4:
            x = r.choice(list(BABIES))
            out.append(f"A young {x} is called {an(BABIES[x])}.")
        elif k == 5:
            i = r.randrange(7)
            out.append(
                r.choice(
                    [
                        f"After {DAYS[i]} comes {DAYS[(i + 1) % 7]}.",
                        f"Before {DAYS[(i + 1) % 7]} comes {DAYS[i]}.",
                    ]
                )
            )
        elif k == 6:
            i = r.randrange(12)
            out.append(f"After {MONTHS[i]} comes {MONTHS[(i + 1) % 12]}.")
        else:
            c = r.choice(list(FACTS))
            x = r.choice(CATEGORY[c])
            out.append(f"{cap(an(x))} is {an(c)}." + (" " + FACTS[c][0] if r.random() < 0.3 else ""))
    return " ".join(out)


def arithmetic_text(r):
    """Lines of the times table; sums are left to the tasks, where some are held out."""
    out = []
    for _ in range(r.randint(4, 10)):
        a, b = r.randint(0, 10), r.randint(0, 10)
        out.append(f"{a} x {b} = {a * b}")
    return "\n".join(out)


def dialogue(r):
    a = Who(r, r.choice(["child", "adult"]))
    b = Who(r, r.choice(["child", "adult"]), (a.name,))
    place, food, day, thing = r.choice(PLACES), r.choice(FOOD), r.choice(DAYS), r.choice(THINGS)
    colour = r.choice(COLOURS)
    scripts = [
        [
            f"Good morning, {b.name}. Where are you going?",
            f"Good morning. I am going to {place}.",
            "May I come with you?",
            "Of course. Two are better than one.",
            f"What shall we take with us?",
            f"Let us take {food}.",
            "That is a good idea.",
        ],
        [
            f"Have you seen my {thing}?",
            f"Is it the {colour} one?",
            f"Yes, the {colour} one.",
            f"I saw it {r.choice(HIDDEN)}.",
            "Thank you very much!",
            "You are welcome.",
        ],
        [
            f"What do you want to do on {day}?",
            f"I want to go to {place}.",
            "But it may rain.",
            "Then we will take an umbrella.",
            "All right, I will come too.",
        ],
        [
            f"I am hungry. What is there to eat?",
            (
                f"There is {food}."
                if not food.endswith("s")
                else f"There are some biscuits and some {r.choice(['bread', 'cheese', 'honey'])}."
            ),
            "Did you make it yourself?",
            f"No, my {r.choice(RELATIVES)} made it.",
            "It tastes very good.",
        ],
        [
            f"Why are you so {r.choice(MOODS)} today?",
            f"Because I lost my {thing}.",
            "Do not worry. I will help you to look for it.",
            "You are a true friend.",
        ],
        [
            f"How old are you, {b.name}?",
            f"I am {r.randint(6, 80)} years old.",
            "And where do you live?",
            f"I live in {r.choice(HOMES)} {r.choice(AREAS)}.",
            "Do you like it there?",
            "Yes, it is a very good place to live.",
        ],
        [
            f"Can you tell me the way to {place}?",
            "Go straight on and then turn left.",
            "Is it far?",
            f"No, it takes {r.choice(NUMBERS[3:])} minutes on foot.",
            "Thank you for your help.",
            "Have a good day!",
        ],
        [
            f"What is that sound?",
            f"I think it is {an(r.choice(ANIMALS))}.",
            "Are you sure?",
            "Listen, there it is again.",
            "I am a little afraid.",
            "It will not hurt us.",
        ],
    ]
    lines = r.choice(scripts)
    if r.random() < 0.5:
        return "\n".join(f"{(a, b)[i % 2].name}: {x}" for i, x in enumerate(lines))
    out = [f"{a.name} met {b.name} near {r.choice(PLACES)}."]
    for i, x in enumerate(lines):
        out.append(talk(r, (a, b)[i % 2], x))
    return "\n".join(out)


def description(r):
    a, b = Who(r, r.choice(["child", "adult"])), r.choice(ANIMALS)
    place = r.choice(PLACES)
    c = [r.choice(COLOURS) for _ in range(4)]
    k = r.randint(0, 4)
    if k == 0:
        return " ".join(
            [
                f"{cap(place)} is a {r.choice(['quiet', 'busy', 'beautiful', 'strange', 'lovely', 'peaceful'])} place in {r.choice(SEASONS)}.",
                weather(r),
                f"There are many {plural(r.choice(FLOWERS))} and a tall {r.choice(TREES)}.",
                f"{cap(an(b))} sits under a {c[0]} roof.",
                f"Children play there every {r.choice(DAYS)}.",
                f"In the evening the {r.choice(JOBS)} walks by and says good night.",
            ]
        ).replace("  ", " ")
    if k == 1:
        return " ".join(
            [
                f"{a.name} is {an(a.trait + ' ' + a.noun)}.",
                f"{a.He} has {c[1] if c[1] in ('brown', 'black', 'red', 'grey', 'white') else 'brown'} hair and wears {an(c[2] + ' ' + r.choice(['hat', 'coat', 'scarf', 'shirt', 'jacket']))}.",
                f"{a.He} lives in {r.choice(HOMES)} {r.choice(AREAS)}.",
                f"{a.His} favourite food is {r.choice(['bread', 'cheese', 'soup', 'honey', 'porridge', 'rice'])}, and {a.his} favourite colour is {c[3]}.",
                f"On {r.choice(DAYS)} {a.he} visits {a.his} {r.choice(RELATIVES)}.",
                (
                    f"When {a.he} grows up, {a.he} wants to be {an(r.choice(JOBS))}."
                    if a.kind == "child"
                    else f"{a.He} has been {an(a.noun)} for {r.randint(2, 40)} years."
                ),
            ]
        )
    if k == 2:
        items = r.sample(THINGS, 4)
        return f"On the table there are four things: {listing([an(r.choice(COLOURS) + ' ' + x) for x in items])}. The {items[0]} belongs to {a.name}. The {items[1]} is older than the {items[2]}. Nobody knows who left the {items[3]} there."
    if k == 3:
        s = r.choice(SEASONS)
        body = {
            "spring": "The days grow longer, the birds come back, and the first flowers open.",
            "summer": "The days are long and hot, and the children swim in the lake.",
            "autumn": "The leaves fall, the nights grow cold, and the farmers bring in the corn.",
            "winter": "The nights are long, snow covers the fields, and people sit by the fire.",
        }[s]
        return f"{cap(s)} is one of the four seasons. {body} {a.name} likes {s} because {a.he} can {r.choice(['play outside', 'read by the window', 'walk in the woods', 'visit friends', 'watch the clouds'])}."
    return f"My {r.choice(RELATIVES)} has {an(r.choice(SIZES) + ' ' + c[0] + ' ' + b)}. It is called {r.choice(PET_NAMES)}. It likes to sleep {r.choice(HIDDEN)}. Every morning it gets {r.choice(['milk', 'bread', 'water', 'fresh leaves', 'nuts', 'oats'])}. {weather(r)}".strip()


def note(r):
    a = Who(r, "child")
    b = Who(r, "adult", (a.name,))
    return "\n\n".join(
        [
            f"Dear {b.name},",
            " ".join(
                [
                    f"I am writing to you from {r.choice(PLACES)}.",
                    weather(r),
                    f"Yesterday we went to {r.choice(PLACES)} and saw {an(r.choice(ANIMALS))}.",
                    f"My {r.choice(RELATIVES)} made {r.choice(FOOD)}, and it was very good.",
                    f"I hope that you are well and not too {r.choice(['tired', 'lonely', 'busy'])}.",
                    f"Please come and visit us in {r.choice(SEASONS)}.",
                ]
            ).replace("  ", " "),
            f"Yours, {a.name}",
        ]
    )


def text(r):
    """One document of any kind."""
    k = r.random()
    if k < 0.66:
        return story(r)[0]
    if k < 0.78:
        return dialogue(r)
    if k < 0.88:
        return description(r)
    if k < 0.94:
        return facts_text(r)
    if k < 0.97:
        return note(r)
    return arithmetic_text(r)


if __name__ == "__main__":
    import random

    rng = random.Random(1)
    for _ in range(12):
        print(text(rng), end="\n\n----\n")
    t, q = story(rng)
    print(t, q)
