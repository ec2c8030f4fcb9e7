"""Books: reading, cleaning, and encoding with known sentence boundaries."""

import re
from pathlib import Path

import numpy as np

HELD_OUT = ("pg11", "pg12", "pg16", "pg55")
"""Books that are only ever tested on."""

QUOTES = {"“": '"', "”": '"', "‘": "'", "’": "'", "—": "--", "\u00a0": " ", "_": ""}
SENTENCE_END = re.compile(r"(?<!Mr)(?<!Mrs)(?<!Dr)(?<!St)[.!?][\"'”’]* (?=[\"'“‘A-Z])")


def clean(text):
    """Unwrap hard line breaks and write typographic quotes in ASCII."""
    for old, new in QUOTES.items():
        text = text.replace(old, new)
    text = re.sub(r"^Produced by [^\n]*\n", "", text)
    paragraphs = (" ".join(p.split()) for p in re.split(r"\n\s*\n", text))
    return "\n\n".join(p for p in paragraphs if p)


def read_books(folder, held_out):
    """Return {name: raw text} of the training books or of the held-out ones."""
    files = sorted(Path(folder).glob("pg*.txt"))
    chosen = [f for f in files if (f.stem in HELD_OUT) == held_out]
    if not chosen:
        raise SystemExit(f"no books (pg*.txt) found in {folder}")
    return {f.stem: f.read_text(encoding="utf-8") for f in chosen}


def split_points(text):
    """Offsets at which a sentence or a paragraph starts, with which of the two."""
    points = {0: "paragraph"}
    for match in re.finditer(r"\n\n+(?=\S)", text):
        points[match.end()] = "paragraph"
    for match in SENTENCE_END.finditer(text):
        points[match.end() - 1] = "sentence"
    return sorted(points.items())


class Book:
    """Token ids of one text, and where its sentences and paragraphs start.

    A sentence start is the blank before its first word, so that another
    sentence can be put there without changing any other token.
    """

    def __init__(self, name, text, tokenizer):
        points = split_points(text)
        ends = [offset for offset, _ in points[1:]] + [len(text)]
        pieces = [text[a:b] for (a, _), b in zip(points, ends)]
        encoded = [e.ids for e in tokenizer.encode_batch(pieces, add_special_tokens=False)]
        starts = np.cumsum([0] + [len(ids) for ids in encoded[:-1]])
        kinds = np.array([kind == "sentence" for _, kind in points])
        self.name = name
        self.tokens = np.concatenate([np.asarray(ids, np.int32) for ids in encoded])
        self.sentences = starts[kinds]
        self.paragraphs = starts[~kinds]

    def cut(self, first, last):
        """The same book with only the given fractions of its tokens."""
        part = object.__new__(Book)
        low = self.paragraphs[np.searchsorted(self.paragraphs, int(first * len(self.tokens)))] if first else 0
        high = int(last * len(self.tokens))
        part.name = self.name
        part.tokens = self.tokens[low:high]
        part.sentences = self.sentences[(self.sentences >= low) & (self.sentences < high)] - low
        part.paragraphs = self.paragraphs[(self.paragraphs >= low) & (self.paragraphs < high)] - low
        return part


def load_books(folder, tokenizer, held_out, raw=False):
    """Read and encode books, cleaned unless `raw`."""
    books = read_books(folder, held_out)
    return [Book(name, text if raw else clean(text), tokenizer) for name, text in books.items()]
