"""The names of an entity, one and many, and how they are written in code, in addresses and in sentences."""

import builtins
import keyword
import re
import symtable
from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import NamedTuple

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
WIDTH = 120
LONGEST = 27  # Alembic keeps `0002_<name>` in 32 characters
PLURAL_IN_ES = re.compile(r"(ss|x|z|ch|sh|[^aeo]us)es")
UNSURE = re.compile(r".*(us|is)|(.*_)?(news|series|species)")
OF_THE_SUITE = {"example", "examples", "alembic_version"}

PROSE = re.compile(r'""".*?"""|#[^\n]*', re.DOTALL)
WORD = re.compile(
    r"(?P<before>\b[Aa]n? |_an?_|such |[/\"])?"
    r"(?P<word>[Ee]xample|[Pp]arent|EXAMPLE|PARENT)(?P<plural>(?<=[a-z])s|(?<=[A-Z])S)?(?=(?P<after>.?))",
    re.DOTALL,
)
SOUNDS_AS_VOWEL = re.compile(r"[aeio]|u(?!s[aeu]|ni|ti)", re.IGNORECASE)


class EntityError(Exception):
    """Why no entity was made, in one plain line."""


class Names(NamedTuple):
    """What one row is called, which is also the table's name, and what many are: the folder's name."""

    one: str
    many: str


def find_names(name: str, plural: str = "") -> Names:
    """Return both names for either one, or raise EntityError."""
    if plural:
        names = Names(name, plural)
    elif UNSURE.fullmatch(name):
        raise EntityError(f"is {name!r} one or many? Say both: NAME={name} PLURAL=...")
    elif name.endswith("s") and not name.endswith("ss"):
        names = Names(_singular(name), name)
    else:
        names = Names(name, _plural(name))
    _check(names)
    return names


def _singular(many: str) -> str:
    if many.endswith("ies"):
        return many[:-3] + "y"
    return many[:-2] if PLURAL_IN_ES.search(many) else many[:-1]


def _plural(one: str) -> str:
    if re.search("[^aeiou]y$", one):
        return one[:-1] + "ies"
    return one + ("es" if re.search("(s|x|z|ch|sh)$", one) else "s")


def _check(names: Names) -> None:
    for word in names:
        if not NAME.fullmatch(word) or len(word) > LONGEST:
            raise EntityError(
                f"a name is words of a-z and 0-9 with _ between them, {LONGEST} characters at most, and begins with a"
                f" letter: NAME=order_item. This one is {word!r}"
            )
        if keyword.iskeyword(word) or {word, to_camel(word)} & vars(builtins).keys():
            raise EntityError(f"{word!r} has a meaning in Python: take another name, such as {word}_entry")
        if word in OF_THE_SUITE:
            raise EntityError(f"{word!r} is taken by the template itself: take another name")
    if names.one == names.many:
        raise EntityError(f"one and many need two names: NAME={names.one} PLURAL={names.one}_items, say")


def to_camel(word: str) -> str:
    """Return a name as a class has it: OrderItem."""
    return "".join(part.capitalize() for part in word.split("_"))


def respell(text: str, words: Mapping[str, Names]) -> str:
    """Return code with the names of `words` for `example` and `parent`, however these are written."""
    parts, at = [], 0
    for prose in PROSE.finditer(text):
        parts += [_respell(text[at : prose.start()], words), _respell(prose[0], words, is_prose=True)]
        at = prose.end()
    return _fold("".join([*parts, _respell(text[at:], words)]))


def _respell(text: str, words: Mapping[str, Names], *, is_prose: bool = False) -> str:
    def write(found: re.Match[str]) -> str:
        before, word, plural, after = (text or "" for text in found.groups())
        if word.lower() not in words:
            return found[0]
        written = words[word.lower()][1 if plural else 0]
        follows = found.string[found.start("word") - 1 : found.start("word")]
        if word[0].isupper():
            written = written.upper() if word.isupper() else to_camel(written)
        elif before in {"/", '"'} and plural and after in {"/", '"'}:  # an address, or its tag
            written = written.replace("_", "-")
        elif (is_prose or before.endswith(" ")) and not re.match(r"\w", follows) and not re.match(r"\w", after):
            written = written.replace("_", " ")
        if before.strip(" _").lower() in {"a", "an"}:
            article = "an" if SOUNDS_AS_VOWEL.match(written) else "a"
            before = re.sub("an?", article, before) if before.islower() else f"{article.capitalize()} "
        return before + written

    return WORD.sub(write, text)


def _fold(text: str) -> str:
    """Break the docstrings that have become longer than a line."""

    def fold(found: re.Match[str]) -> str:
        return fill(found[0], WIDTH, subsequent_indent=found[1], break_long_words=False, break_on_hyphens=False)

    return re.sub(r'^( *)""".*"""$', fold, text, flags=re.MULTILINE)


def find_clashes(text: str, words: Mapping[str, Names]) -> Iterator[str]:
    """Yield each name that would stand for two things in a scope of the code `text`, once it is respelled."""
    tables = [symtable.symtable(text, "<template>", "exec")]
    for table in tables:
        tables += table.get_children()
        names = set(table.get_identifiers())
        yield from {new for name in names if (new := respell(name, words)) != name and new in names}
