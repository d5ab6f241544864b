"""Sentence splitting: ends of sentences, full stops within sentences, and characters that no voice speaks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmtalk.voices.sentences import MAX_SENTENCE_CHARS, is_speakable, split_complete_sentences, split_sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there. How are you? Fine!", ["Hello there.", "How are you?", "Fine!"]),
        ("Dr. Smith met Mrs. Jones on Main St. today. Hi.", ["Dr. Smith met Mrs. Jones on Main St. today.", "Hi."]),
        ("Be here at 5 p.m. today.", ["Be here at 5 p.m. today."]),
        ("We close at 5 p.m. Come early.", ["We close at 5 p.m.", "Come early."]),
        ("It costs 3.50 or 1,000.75. Version 2.0.1 is out.", ["It costs 3.50 or 1,000.75.", "Version 2.0.1 is out."]),
        ("See example.com for more. Bye.", ["See example.com for more.", "Bye."]),
        ('She said "Stop!" and left. "Why?" he asked.', ['She said "Stop!" and left.', '"Why?" he asked.']),
        ("He said “Go.” Then he went.", ["He said “Go.”", "Then he went."]),
        ("Well... maybe not. So… What now?", ["Well... maybe not.", "So…", "What now?"]),
        ("J. R. Tolkien wrote it. So did I. Yes.", ["J. R. Tolkien wrote it.", "So did I.", "Yes."]),
        ("1. First point. 2. Second point.", ["1. First point.", "2. Second point."]),
        ("Really?! Yes!!! No.", ["Really?!", "Yes!!!", "No."]),
        ("I said no. He left. See no. 5, vol. 2.", ["I said no.", "He left.", "See no. 5, vol. 2."]),
        ("e.g. apples, i.e. fruit. Done.", ["e.g. apples, i.e. fruit.", "Done."]),
        ("你好。今天天气怎么样？很好！", ["你好。", "今天天气怎么样？", "很好！"]),
        ("彼は「行く。」と言った。本当？", ["彼は「行く。」", "と言った。", "本当？"]),
        ("مرحبا. كيف حالك؟ أنا بخير.", ["مرحبا.", "كيف حالك؟", "أنا بخير."]),
        ("नमस्ते। आप कैसे हैं? ठीक॥", ["नमस्ते।", "आप कैसे हैं?", "ठीक॥"]),
        ("First line\nsecond line\r\n\r\nthird", ["First line", "second line", "third"]),
        ("  spaced \t out  . ", ["spaced out ."]),
        ("no full stop", ["no full stop"]),
    ],
)  # fmt: skip
def test_splits(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


@pytest.mark.parametrize("text", ["", "   \n\t ", "😀🎉👍🏽", "... !!! ???", "👨‍👩‍👧‍👦", "\x00\x07\u200b", "❤️ ✨ — …"])
def test_text_without_letters_and_digits(text: str) -> None:
    assert split_sentences(text) == []
    assert not is_speakable(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello 😀 world! 🎉 Bye.", ["Hello world!", "Bye."]),
        ("Hi👋there", ["Hi there"]),
        ("Press 1️⃣ now.", ["Press 1 now."]),
        ("bell\x07 and nul\x00 gone", ["bell and nul gone"]),
        ("zero\u200bwidth", ["zerowidth"]),
        ("می‌خواهم", ["می‌خواهم"]),
        ("20 °C & 5 % © me", ["20 °C & 5 % © me"]),
    ],
)
def test_silent_characters_are_removed(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


def test_long_sentence_is_cut_at_commas() -> None:
    text = ", ".join(f"part number {k} of a long one" for k in range(30)) + "."
    parts = split_sentences(text)
    assert all(len(part) <= MAX_SENTENCE_CHARS for part in parts)
    assert all(part.endswith(",") for part in parts[:-1])
    assert " ".join(parts) == text


def test_long_sentence_without_commas_is_cut_at_spaces() -> None:
    text = "word " * 300
    parts = split_sentences(text)
    assert all(len(part) <= MAX_SENTENCE_CHARS for part in parts)
    assert " ".join(parts) == text.strip()


def test_a_comma_within_a_number_is_not_a_cut() -> None:
    text = "a" * 150 + " 1,000,000 " + "b" * 100
    assert split_sentences(text)[0] == "a" * 150 + " 1,000,000"


def test_word_without_spaces_is_cut_hard() -> None:
    parts = split_sentences("字" * 450)
    assert [len(part) for part in parts] == [200, 200, 50]


def test_thai_is_cut_at_its_spaces() -> None:
    text = "สวัสดีครับวันนี้อากาศดีมาก " * 20
    parts = split_sentences(text)
    assert all(len(part) <= MAX_SENTENCE_CHARS for part in parts)
    assert " ".join(parts) == text.strip()


def test_mixed_scripts() -> None:
    assert split_sentences("Hello. 你好。नमस्ते। Привет!") == ["Hello.", "你好。", "नमस्ते।", "Привет!"]


@given(st.text(max_size=600))
def test_any_text(text: str) -> None:
    parts = split_sentences(text)
    assert all(0 < len(part) <= MAX_SENTENCE_CHARS and "\n" not in part and is_speakable(part) for part in parts)
    assert bool(parts) == is_speakable(text)


def test_long_text() -> None:
    text = "Some words, and more. " * 1000
    assert len(split_sentences(text)) == 1000


def test_complete_sentences_of_a_growing_text() -> None:
    complete: list[str] = []
    rest = ""
    for part in ("Dr. Smi", "th has 3.", "14 cats! Re", "ally? 你好", "。他", "\nA line", " ends\nx"):
        sentences, rest = split_complete_sentences(rest + part)
        complete += sentences
    assert complete == ["Dr. Smith has 3.14 cats!", "Really?", "你好。", "他", "A line ends"]
    assert rest == "x"
    sentences, rest = split_complete_sentences("word " * 100)
    assert sentences
    assert len(rest) < 400
