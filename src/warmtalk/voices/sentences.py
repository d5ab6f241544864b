"""Text to sentences that a voice can say. Pure.

Short sentences bring the first picture early, so a long one is cut at commas, then at spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MAX_SENTENCE_CHARS = 200
"""A sentence is cut when it is longer."""

_ABBREVIATIONS = frozenset(re.findall(r"\S+", """
    mr mrs ms dr prof sr jr st mt vs etc approx dept est gen gov inc ltd co corp sen rep rev hon capt col lt sgt
    jan feb mar apr jun jul aug sep sept oct nov dec e.g i.e a.m p.m u.s u.k u.n cf al
    bzw usw z.b d.h ca str mme mlle sra srta
"""))  # fmt: skip
_BEFORE_NUMBERS = frozenset(["no", "nos", "vol", "p", "pp", "fig", "nr", "ch", "sec"])
_OPTIONAL_STOP = frozenset(
    ["etc", "a.m", "p.m", "inc", "ltd", "co", "corp", "jr", "sr", "u.s", "u.k", "u.n", "al", "usw"]
)
"""Abbreviations that do end a sentence when a capital letter follows."""
_CLOSERS = "\"'”’»›)]}」』】〉》）］｝"
_STRONG = "!?‼⁇⁈⁉。！？｡…؟۔।॥։።፧။៕"
"""End a sentence wherever they stand; '.' has rules of its own. Thai has no full stop: spaces part its sentences."""
_END = re.compile(rf"(?:[{_STRONG}]+|\.+)[.{_STRONG}]*[{re.escape(_CLOSERS)}]*")
_COMMA = re.compile(r"[,;:،؛、，；：–—][\s" + re.escape(_CLOSERS) + r"]*|\s[-–—]\s|(?<=[\u0e00-\u0e7f])\s+")
_SPEAKABLE = {"L", "N"}
_DROPPED = {"Cc", "Cf", "Cn", "Co", "Cs", "So", "Sk"}
_KEPT = "°©®™℃℉\u200c\u200d"
"""Signs that voices can say, and the joiners that Persian and Indic words are spelled with."""
_SPACES = re.compile(r"\s+")
_LINES = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")


def is_speakable(text: str) -> bool:
    """There is at least one letter or digit."""
    return any(unicodedata.category(char)[0] in _SPEAKABLE for char in text)


def split_sentences(text: str, *, max_chars: int = MAX_SENTENCE_CHARS) -> list[str]:
    """In order, on one line each, at most `max_chars` long, each with a letter or digit; [] when nothing is left."""
    found: list[str] = []
    for line in _LINES.split(text):
        for sentence in _split(_clean(line)):
            found += [part for part in _cut(sentence, max_chars) if is_speakable(part)]
    return found


def split_complete_sentences(text: str, *, max_chars: int = MAX_SENTENCE_CHARS) -> tuple[list[str], str]:
    """(sentences that are complete, the rest) of a text that still grows.

    A sentence is complete when the next one has begun, a line has ended, or it is so long that it is cut anyway.
    """
    place = max((match.end() for match in _LINES.finditer(text)), default=0)
    for match in _END.finditer(text, place):
        if text[match.end() :].strip() and _ends_sentence(_spaced(text), place, match):
            place = match.end()
    rest = text[place:]
    if len(rest) > 2 * max_chars:
        cut = _cut_place(rest, max_chars)
        place, rest = place + cut, rest[cut:]
    return split_sentences(text[:place], max_chars=max_chars), rest


def _clean(line: str) -> str:
    """Without emoji, control characters and other signs that have no sound."""
    kept = (char if _has_sound(char) else " " if unicodedata.category(char) == "So" else "" for char in _spaced(line))
    joined = "".join(kept)
    return _SPACES.sub(" ", re.sub(r"(?<!\w)[\u200c\u200d]+|[\u200c\u200d]+(?!\w)", "", joined)).strip()


def _spaced(line: str) -> str:
    return "".join(" " if char.isspace() else char for char in line)


def _has_sound(char: str) -> bool:
    if char in _KEPT:
        return True
    category = unicodedata.category(char)
    return category not in _DROPPED and not "\ufe00" <= char <= "\ufe0f" and char != "\u20e3"


def _split(line: str) -> Iterator[str]:
    start = 0
    for match in _END.finditer(line):
        if _ends_sentence(line, start, match):
            yield line[start : match.end()].strip()
            start = match.end()
    if rest := line[start:].strip():
        yield rest


def _ends_sentence(line: str, start: int, match: re.Match[str]) -> bool:
    after = line[match.end() :]
    if not after.strip():
        return True
    mark = match.group().rstrip(_CLOSERS)
    following = after.lstrip(_CLOSERS + " \"'“‘«‹([{¿¡")
    if set(mark) <= {"…", "."} and len(mark) + 2 * mark.count("…") > 1:
        return after[0] == " " and not following[:1].islower()  # "Well... maybe" goes on
    if mark != ".":
        return not (after[0] == " " and following[:1].islower() and match.group() != mark)  # "Why?" he said
    return (
        after[0] == " " and not following[:1].islower() and not _is_abbreviation(line[start : match.start()], following)
    )


def _is_abbreviation(before: str, following: str) -> bool:
    word = before.rsplit(" ", 1)[-1].lstrip("\"'“‘«‹([{").lower()
    if word in _ABBREVIATIONS:
        return not (word in _OPTIONAL_STOP and following[:1].isupper())
    if word in _BEFORE_NUMBERS:
        return following[:1].isdigit()
    if len(word) == 1 and word.isalpha() and word.isascii():
        return word != "i"  # an initial: J. Smith
    return word.isdigit() and len(word) <= 2 and before.strip() == word  # "1. First"


def _cut(sentence: str, most: int) -> Iterator[str]:
    while len(sentence) > most:
        place = _cut_place(sentence, most)
        yield sentence[:place].strip()
        sentence = sentence[place:].strip()
    yield sentence


def _cut_place(sentence: str, most: int) -> int:
    """Behind the last comma of the first `most` characters, else at the last space, else within the word."""
    commas = [match.end() for match in _COMMA.finditer(sentence, 0, most) if not _in_number(sentence, match)]
    late = [place for place in commas if place >= most // 4]
    if late:
        return late[-1]
    space = sentence.rfind(" ", most // 4, most)
    if space > 0:
        return space
    place = most
    while place > most // 2 and (unicodedata.combining(sentence[place]) or sentence[place] in "\u200c\u200d"):
        place -= 1
    return place


def _in_number(sentence: str, match: re.Match[str]) -> bool:
    around = sentence[match.start() - 1 : match.start()] + sentence[match.end() : match.end() + 1]
    return len(around) == 2 and around.isdigit() and match.end() - match.start() == 1
