"""The word lists from which stories and tasks are made. All of it is our own writing."""


def w(text):
    return text.split()


def p(text):
    return [s.strip() for s in text.split(",") if s.strip()]


GIRLS = w(
    """Anna Bella Clara Daisy Ella Fiona Grace Hanna Ivy Julia Kate Lily Mia Nora Olive Penny Rosa Sara Tess Una Vera
Wendy Zoe Amy Beth Cora Dora Emma Flora Gina Holly Iris Jane Kira Lucy Maya Nina Opal Polly Ruby Sofia Tara Willa Yara Ada
Bridget Celia Edith Freya Greta Hazel Ingrid Josie Leah Maria Nadia Paula Rita Stella Thea Vivian Alma Carla Elsa"""
)
BOYS = w(
    """Adam Ben Carl David Eric Fred George Henry Ivan Jack Kurt Leo Max Noah Oscar Paul Ralph Sam Tom Victor Walter
Alan Bruno Colin Dan Edgar Finn Gus Hugo Ian John Karl Liam Mark Ned Otto Peter Robin Simon Theo Will Arthur Boris Conrad
Derek Emil Felix Gabriel Harry Isaac Jonas Kevin Lars Martin Nathan Omar Patrick Rupert Stefan Tim Uri Vincent"""
)
ANIMALS = w(
    """fox rabbit bear mouse owl frog duck hedgehog squirrel badger otter wolf deer goat sheep pig cat dog horse
donkey beaver turtle lizard crow sparrow robin goose hen swan mole hare lion tiger monkey elephant camel zebra parrot
penguin seal whale dolphin snail bee ant spider butterfly moth cricket eagle hawk pony lamb kitten puppy"""
)
PET_NAMES = w(
    """Biscuit Pepper Shadow Ginger Pickle Button Misty Rusty Pip Bramble Clover Dusty Fern Hopper Jasper Muffin
Nutmeg Patch Quill Sandy Smoky Spot Sunny Tawny Thistle Whisker Willow Bobbin Cinder Dapple Ember Fidget"""
)
FRUIT = w(
    "apple pear plum cherry peach lemon orange banana grape melon fig lime mango apricot strawberry raspberry blueberry"
)
VEGETABLES = w(
    "carrot potato onion cabbage pea bean pumpkin turnip cucumber tomato spinach radish leek beet lettuce"
)
FLOWERS = w("rose tulip daisy lily violet poppy sunflower daffodil orchid bluebell marigold")
TREES = w("oak pine birch maple willow elm cedar beech chestnut ash fir")
TOOLS = w("hammer saw shovel rake axe drill spade wrench knife needle broom bucket ladder")
CLOTHES = w("hat coat scarf shirt dress sock glove boot shoe jacket belt cap sweater skirt mitten apron")
VEHICLES = w("car bus train boat bicycle truck ship plane tractor wagon cart sledge tram")
INSTRUMENTS = w("drum flute violin piano guitar trumpet harp bell whistle fiddle")
FURNITURE = w("table chair bed desk shelf cupboard bench sofa stool wardrobe")
FOOD = p(
    """bread, cheese, soup, honey, porridge, an apple pie, a bowl of soup, a cheese sandwich, pancakes, toast with jam,
warm milk, nuts and berries, a baked potato, rice and beans, a plum cake, noodles, roast chicken, a boiled egg, biscuits"""
)
THINGS = w(
    """key ball kite book lamp basket box coin ring map cup letter clock mirror feather button stone candle drum doll
brush pencil spoon kettle blanket umbrella ribbon marble whistle bell lantern purse necklace pocketbook notebook compass
teapot pillow rope jar bottle puzzle crown flag shell puppet telescope magnet wallet picture"""
)
COLOURS = w("red blue green yellow white black brown grey pink purple orange silver golden")
SIZES = w("small big tiny large little huge")
LOOKS = w("old new shiny dusty broken heavy light smooth round wooden soft strange lovely plain pretty")
MOODS = w(
    "happy sad tired angry proud worried excited lonely hungry calm nervous cheerful curious grumpy surprised thankful"
)
KINDS = w(
    "kind brave clever shy quiet friendly gentle patient careful honest busy cheerful stubborn polite lazy curious playful"
)
PLACES = p(
    """the park, the forest, the market, the river, the school, the garden, the library, the beach, the mountain,
the village, the farm, the harbour, the lake, the kitchen, the castle, the bakery, the meadow, the old mill, the station,
the museum, the barn, the island, the orchard, the town square, the hill, the bridge, the cave, the church, the post office"""
)
HOMES = p(
    """a small house, a tiny cottage, a tall house, a white house, a wooden hut, a flat above a shop, a stone house,
an old farmhouse, a house with a red door, a house by the sea, a cabin in the woods"""
)
AREAS = p(
    """at the edge of a forest, near a river, on top of a hill, in a quiet village, in a big city, by the sea,
at the end of a long road, next to a school, in the middle of a valley, beside a lake, behind the old church, near the market"""
)
HIDDEN = p(
    """under the bed, behind the door, in the garden, on the roof, inside a shoe, in the kitchen drawer,
under a pile of leaves, on the top shelf, in a hole in the tree, behind the sofa, at the bottom of the stairs, under the table,
next to the well, between two stones, in the pocket of an old coat, beneath the bridge, inside the teapot, on the window sill"""
)
JOBS = w(
    """baker farmer teacher doctor sailor painter gardener tailor miller fisherman carpenter shepherd musician cook
postman blacksmith librarian nurse clockmaker shoemaker builder driver"""
)
DAYS = w("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = w("January February March April May June July August September October November December")
SEASONS = w("spring summer autumn winter")
RELATIVES = w("mother father sister brother grandmother grandfather aunt uncle cousin")
SHAPES = w("circle square triangle star heart")
MATERIALS = w("wood stone iron glass paper clay wool cotton silver leather")
PLAIN_NOUNS = w(
    """apple bird boat cat cloud door egg fish flower glass hand house island jacket king lamp moon night ocean
paper queen rain sand table uncle valley water year zebra arrow bread chair drum earth fire grass honey ink jar kite leaf
mountain nest onion pond quilt road snow tower umbrella voice window yard anchor bottle candle desk engine feather garden
hammer iron jungle kettle ladder market needle orange pillow river silver tunnel village wagon basket corner danger evening
finger ground hill insect journey kitchen letter mirror number office pencil question ribbon shadow thunder winter yellow
bridge castle doctor farmer guitar harbour jewel lemon meadow nurse oven planet rabbit school ticket violin wolf"""
)

CATEGORY = {
    "animal": ANIMALS,
    "fruit": FRUIT,
    "vegetable": VEGETABLES,
    "flower": FLOWERS,
    "tree": TREES,
    "tool": TOOLS,
    "vehicle": VEHICLES,
    "musical instrument": INSTRUMENTS,
    "colour": COLOURS[:9],
    "day of the week": DAYS,
    "month": MONTHS,
    "piece of furniture": FURNITURE,
    "piece of clothing": CLOTHES,
}
PLURAL = {
    "mouse": "mice",
    "goose": "geese",
    "wolf": "wolves",
    "deer": "deer",
    "sheep": "sheep",
    "leaf": "leaves",
    "knife": "knives",
    "shelf": "shelves",
    "scarf": "scarves",
    "butterfly": "butterflies",
    "puppy": "puppies",
    "pony": "ponies",
    "berry": "berries",
    "cherry": "cherries",
    "peach": "peaches",
    "box": "boxes",
    "fox": "foxes",
    "brush": "brushes",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "radish": "radishes",
    "mango": "mangoes",
    "daisy": "daisies",
    "lily": "lilies",
    "poppy": "poppies",
    "strawberry": "strawberries",
    "raspberry": "raspberries",
    "blueberry": "blueberries",
    "donkey": "donkeys",
    "bus": "buses",
    "dress": "dresses",
    "compass": "compasses",
    "wrench": "wrenches",
    "beech": "beeches",
    "birch": "birches",
    "bench": "benches",
    "ash": "ashes",
    "spinach": "spinach",
    "lettuce": "lettuces",
}


def plural(noun):
    return PLURAL.get(noun, noun + "s")


def an(phrase):
    """The phrase with its indefinite article."""
    vowel = phrase[0] in "aeiou" or phrase.startswith(("honest", "hour"))
    if phrase.startswith(("uni", "use", "one ")):
        vowel = False
    return ("an " if vowel else "a ") + phrase


def cap(text):
    return text[0].upper() + text[1:]


def listing(items):
    """one / one and two / one, two and three"""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
