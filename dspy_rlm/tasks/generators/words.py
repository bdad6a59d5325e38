"""Lists of words for generated texts, and names built of syllables."""

from __future__ import annotations

from dspy_rlm.tasks.draws import Draws


def listed(text: str, separator: str | None = None) -> tuple[str, ...]:
    """Returns the parts of a text, separated by spaces or by another separator."""
    return tuple(text.split(separator))


ADJECTIVES = listed(
    "ancient brave calm clever crisp curious eager early faint gentle golden grand hidden humble icy keen late "
    "lively loyal mellow modest narrow noble orange patient pale proud quick quiet rapid rare rural shy silent "
    "silver solid sour steep sunny swift tidy tiny vivid warm wide wild witty young"
)

NOUNS = listed(
    "anchor apple arch badge barrel basin beacon bell bench blanket bottle bridge bucket cabin candle canoe "
    "carpet castle chapel cherry circle clock coral cradle crown curtain desk dragon drawer drum engine feather "
    "fence fiddle flag forest fountain garden gate glove hammer harbor helmet hill horn island jacket jewel "
    "kettle kite ladder lantern ledger lemon lion marble market meadow mirror mountain needle oasis orchard "
    "oven paddle palace pebble pepper piano pillow planet pocket pond prism quarry quilt raven ribbon river "
    "saddle sail shelf shield spoon stable statue stove temple ticket tower tractor trumpet tunnel valley "
    "vase violin wagon walnut whistle willow window"
)

FIRST_NAMES = listed(
    "Ada Amos Anouk Bela Bram Clara Cyrus Dalia Dario Edith Emil Esme Farah Felix Greta Hugo Ines Ivo Jana Jonas "
    "Kaya Kofi Lena Levi Lucia Mabel Marek Mina Nadia Nils Noor Odile Omar Petra Priya Quentin Rafael Rosa Runa "
    "Samir Selma Silas Tara Tomas Ulla Umar Vera Viktor Wanda Yara Yusuf Zelda"
)

_STARTS = listed("b br c d dr f g gr h j k kl l m n p r s st t tr v w z")
_MIDDLES = listed("a e i o u ai au ea ie oa")
_ENDS = listed("l m n nd r rk rn s ss t th x")


def made_up_name(draws: Draws) -> str:
    """Returns a name of two or three syllables that no real text has."""
    count = draws.between(2, 3)
    parts = [draws.choice(_STARTS) + draws.choice(_MIDDLES) for _ in range(count)]
    return "".join(parts).capitalize() + draws.choice(_ENDS)


def made_up_names(draws: Draws, count: int) -> list[str]:
    """Returns different names."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[made_up_name(draws)] = None
    return list(found)
