"""Splits text into sentences for a voice. Pure.

Short sentences shorten the time to the first frame. So a long sentence is cut at commas, then at spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MAX_SENTENCE_CHARS = 200
"""Longer sentences are cut."""

_ABBREVIATIONS = frozenset(re.findall(r"\S+", """
    mr mrs ms dr prof sr jr st mt vs etc approx dept est gen gov inc ltd co corp sen rep rev hon capt col lt sgt
    jan feb mar apr jun jul aug sep sept oct nov dec e.g i.e a.m p.m u.s u.k u.n cf al
    bzw usw z.b d.h ca str mme mlle sra srta
"""))  # fmt: skip
_NUMBER_PREFIXES = frozenset(["no", "nos", "vol", "p", "pp", "fig", "nr", "ch", "sec"])
"""Abbreviations in front of a digit, and words elsewhere: no. 5, but "I said no."."""
_SENTENCE_FINAL = frozenset(
    ["etc", "a.m", "p.m", "inc", "ltd", "co", "corp", "jr", "sr", "u.s", "u.k", "u.n", "al", "usw"]
)
"""Abbreviations that end a sentence when a capital letter follows."""
_CLOSERS = "\"'”’»›)]}」』】〉》）］｝"
_TERMINATORS = "!?‼⁇⁈⁉。！？｡…؟۔।॥։።፧။៕"
"""Marks that always end a sentence. "." has special rules. Thai has no full stop: spaces separate sentences."""
_END = re.compile(rf"(?:[{_TERMINATORS}]+|\.+)[.{_TERMINATORS}]*[{re.escape(_CLOSERS)}]*")
_COMMA = re.compile(r"[,;:،؛、，；：–—][\s" + re.escape(_CLOSERS) + r"]*|\s[-–—]\s|(?<=[\u0e00-\u0e7f])\s+")
_SPEAKABLE_CATEGORIES = {"L", "N"}
_SILENT_CATEGORIES = {"Cc", "Cf", "Cn", "Co", "Cs", "So", "Sk"}
_SPOKEN_SIGNS = "°©®™℃℉\u200c\u200d"
"""Signs that voices can speak, and the joiners of Persian and Indic spelling."""
_SPACES = re.compile(r"\s+")
_LINE_ENDS = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")


def is_speakable(text: str) -> bool:
    """Returns True when the text has a letter or digit."""
    return any(unicodedata.category(char)[0] in _SPEAKABLE_CATEGORIES for char in text)


def split_sentences(text: str, *, max_chars: int = MAX_SENTENCE_CHARS) -> list[str]:
    """Returns the sentences in order, one line each, of at most `max_chars` and at least one letter or digit."""
    parts: list[str] = []
    for line in _LINE_ENDS.split(text):
        for sentence in _split(_clean(line)):
            parts += [part for part in _cut(sentence, max_chars) if is_speakable(part)]
    return parts


def split_complete_sentences(text: str, *, max_chars: int = MAX_SENTENCE_CHARS) -> tuple[list[str], str]:
    """Returns (complete sentences, rest) of a text that still grows.

    A sentence is complete when the next one has started, when a line has ended, or when the sentence is long enough
    for a cut.
    """
    end = max((match.end() for match in _LINE_ENDS.finditer(text)), default=0)
    for match in _END.finditer(text, end):
        if text[match.end() :].strip() and _ends_sentence(_with_plain_spaces(text), end, match):
            end = match.end()
    rest = text[end:]
    if len(rest) > 2 * max_chars:
        cut = _cut_index(rest, max_chars)
        end, rest = end + cut, rest[cut:]
    return split_sentences(text[:end], max_chars=max_chars), rest


def _clean(line: str) -> str:
    """Removes emoji, control characters and other characters without a pronunciation."""
    chars = (
        char if _is_spoken(char) else " " if unicodedata.category(char) == "So" else ""
        for char in _with_plain_spaces(line)
    )
    joined = "".join(chars)
    return _SPACES.sub(" ", re.sub(r"(?<!\w)[\u200c\u200d]+|[\u200c\u200d]+(?!\w)", "", joined)).strip()


def _with_plain_spaces(line: str) -> str:
    return "".join(" " if char.isspace() else char for char in line)


def _is_spoken(char: str) -> bool:
    if char in _SPOKEN_SIGNS:
        return True
    category = unicodedata.category(char)
    return category not in _SILENT_CATEGORIES and not "\ufe00" <= char <= "\ufe0f" and char != "\u20e3"


def _split(line: str) -> Iterator[str]:
    start = 0
    for match in _END.finditer(line):
        if _ends_sentence(line, start, match):
            yield line[start : match.end()].strip()
            start = match.end()
    if rest := line[start:].strip():
        yield rest


def _ends_sentence(line: str, start: int, match: re.Match[str]) -> bool:
    """Returns True when the marks of `match` end the sentence that starts at `start`."""
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
    """Returns True when the last word of `before` and a full stop are an abbreviation in front of `following`."""
    word = before.rsplit(" ", 1)[-1].lstrip("\"'“‘«‹([{").lower()
    if word in _ABBREVIATIONS:
        return not (word in _SENTENCE_FINAL and following[:1].isupper())
    if word in _NUMBER_PREFIXES:
        return following[:1].isdigit()
    if len(word) == 1 and word.isalpha() and word.isascii():
        return word != "i"  # an initial: J. Smith
    return word.isdigit() and len(word) <= 2 and before.strip() == word  # "1. First"


def _cut(sentence: str, max_chars: int) -> Iterator[str]:
    while len(sentence) > max_chars:
        index = _cut_index(sentence, max_chars)
        yield sentence[:index].strip()
        sentence = sentence[index:].strip()
    yield sentence


def _cut_index(sentence: str, max_chars: int) -> int:
    """Returns the index behind the last comma of the first `max_chars` characters, else of the last space, else a
    position within the word, in front of combining marks.
    """
    min_chars = max_chars // 4
    commas = [match.end() for match in _COMMA.finditer(sentence, 0, max_chars) if not _in_number(sentence, match)]
    late_commas = [index for index in commas if index >= min_chars]
    if late_commas:
        return late_commas[-1]
    space = sentence.rfind(" ", min_chars, max_chars)
    if space > 0:
        return space
    index = max_chars
    while index > max_chars // 2 and (unicodedata.combining(sentence[index]) or sentence[index] in "\u200c\u200d"):
        index -= 1
    return index


def _in_number(sentence: str, match: re.Match[str]) -> bool:
    """Returns True for a comma between digits, as in 1,000."""
    around = sentence[match.start() - 1 : match.start()] + sentence[match.end() : match.end() + 1]
    return len(around) == 2 and around.isdigit() and match.end() - match.start() == 1
