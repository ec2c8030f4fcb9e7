"""Training and test sequences: books, and facts buried in them."""

import json
import random
from pathlib import Path

import numpy as np

from corpus import load_books

IGNORE, ANSWER, PROSE = 0, 1, 2
END, START, STOP = 0, 1, 2
"""Token ids of <|endoftext|>, <|im_start|> and <|im_end|>."""


def load_facts():
    """The word lists and templates shared with other generators."""
    return json.loads((Path(__file__).parent / "facts.json").read_text(encoding="utf-8"))


class Sequence:
    """Token ids with, for each, whether and how predicting it is scored."""

    def __init__(self):
        self.ids, self.kinds, self.labels = [], [], []

    def add(self, ids, kind=IGNORE):
        """Append tokens of one kind."""
        self.ids.extend(ids)
        self.labels.extend(ids)
        self.kinds.extend([kind] * len(ids))

    def relabel(self, label):
        """Score the last token as if it had been another one."""
        self.labels[-1], self.kinds[-1] = label, ANSWER

    def padded(self, length):
        """Arrays of exactly `length`: ids, labels and kinds."""
        rows = np.zeros((3, length), np.int32)
        for row, values in zip(rows, (self.ids, self.labels, self.kinds)):
            values = values[:length]
            row[: len(values)] = values
        return rows


class Generator:
    """Draws sequences from books; the same seed gives the same sequences."""

    def __init__(self, tokenizer, books, raw_books, seed):
        self.tokenizer, self.books, self.raw_books = tokenizer, books, raw_books
        self.score_haystack = False
        self.facts = load_facts()
        self.rng = random.Random(seed)
        self.cache = {}

    def encode(self, text):
        """Token ids of a text in which special tokens may occur."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def encode_cached(self, text):
        """Like `encode`, for the templates' recurring pieces."""
        if text not in self.cache:
            self.cache[text] = self.encode(text)
        return self.cache[text]

    def keys(self, count):
        """Distinct (attribute, adjective, noun); often ones that are easily confused."""
        facts, rng = self.facts, self.rng
        pools = [facts["attributes"], facts["adjectives"], facts["nouns"]]
        if rng.random() < 0.35:
            side = max(4, int(count ** 0.5) + 2)
            pools = [rng.sample(pool, min(side, len(pool))) for pool in pools]
        chosen = {}
        while len(chosen) < count:
            chosen[tuple(rng.choice(pool) for pool in pools)] = self.value()
        return list(chosen.items())

    def value(self):
        """A random number, written out."""
        low, high = self.facts["valueDigits"]
        digits = self.rng.randint(low, high)
        return str(self.rng.randint(10 ** (digits - 1), 10**digits - 1))

    def statement(self, key, value):
        """Tokens of a sentence, with its leading blank, that states a fact."""
        form = " " + self.rng.choice(self.facts["statements"])
        before, after = fill(form, key, value="\0").split("\0")
        return self.encode_cached(before) + self.encode_cached(value) + self.encode_cached(after)

    def question(self, picked):
        """A question for one fact or for several, and its answer."""
        facts = self.facts
        if len(picked) == 1:
            (key, value), = picked
            return fill(self.rng.choice(facts["questions"]), key), value
        items = [fill(facts["listItem"], key) for key, _ in picked]
        items = facts["listJoin"].join(items[:-1]) + facts["listLastJoin"] + items[-1]
        return (facts["listQuestion"].format(items=items),
                facts["listAnswerJoin"].join(value for _, value in picked))

    def haystack(self, room):
        """A book, a start in it, the sentence starts in the `room` tokens from there, their kind."""
        raw = self.raw_books and self.rng.random() < 0.25
        books = [b for b in (self.raw_books if raw else self.books) if len(b.tokens) > room + 400]
        book = self.rng.choices(books, [len(b.tokens) for b in books])[0]
        last = np.searchsorted(book.paragraphs, len(book.tokens) - room)
        start = int(book.paragraphs[self.rng.randrange(max(1, last))])
        low, high = np.searchsorted(book.sentences, [start + 1, start + room])
        return book, start, book.sentences[low:high], PROSE if self.score_haystack and not raw else IGNORE

    def bury(self, sequence, statements, room):
        """Add prose with the statements at random depths; return its last sentence."""
        size = sum(map(len, statements))
        book, start, cuts, kind = self.haystack(max(room - size, 0))
        if len(cuts) < 2:
            for ids in statements[:-1]:
                sequence.add(ids)
            return statements[-1]
        span = cuts[-1] - start
        depths = sorted(self.rng.random() for _ in statements)
        spots = [int(cuts[min(np.searchsorted(cuts, start + d * span), len(cuts) - 2)]) for d in depths]
        at = start
        for spot, ids in zip(spots, statements):
            sequence.add(book.tokens[at:spot].tolist(), kind)
            sequence.add(ids)
            at = spot
        sequence.add(book.tokens[at:cuts[-2]].tolist(), kind)
        return book.tokens[cuts[-2]:cuts[-1]].tolist()

    def recall(self, length, facts, questions, chat, listed=0.0):
        """Facts buried in prose, then questions about some of them."""
        rng, forms = self.rng, self.facts
        known = self.keys(facts)
        statements = [self.statement(*fact) for fact in known]
        order = rng.sample(known, len(known)) * (questions // len(known) + 1)
        asked = []
        for fact in order[:questions]:
            several = rng.random() < listed and len(known) > 3
            asked.append(self.question(rng.sample(known, rng.randint(2, 4)) if several else [fact]))
        head = self.chat_head() if chat else []
        question, answer = ("chatQuestion", "chatAnswer") if chat else ("plainQuestion", "plainAnswer")
        turns = []
        for i, (text, value) in enumerate(asked):
            text = forms[question].format(question=text)
            if chat:
                text = "<|im_end|>\n<|im_start|>user\n" + text.lstrip() if i else text
                text += "<|im_end|>\n<|im_start|>assistant\n"
            turns.append((text, self.encode(forms[answer].format(answer=value))))
        tail = sum(len(t) // 3 + len(a) + 6 for t, a in turns) if len(turns) > 1 else 45
        sequence = Sequence()
        sequence.add(head)
        last = self.bury(sequence, statements, length - len(head) - tail)
        text, answer = turns[0]
        sequence.add(self.encode(self.tokenizer.decode(last) + text))
        sequence.add(answer, ANSWER)
        for text, answer in turns[1:]:
            self.close(sequence, self.encode(text), chat)
            sequence.add(answer, ANSWER)
        self.close(sequence, [STOP if chat else END], chat)
        return sequence

    @staticmethod
    def close(sequence, following, chat):
        """Go on after an answer, scoring the end of the answer."""
        sequence.add(following[:1], ANSWER)
        sequence.relabel(STOP if chat else END)
        sequence.add(following[1:])

    def chat_head(self):
        """The start of a conversation up to the user's text."""
        system = self.rng.choice(self.facts["systems"]) if self.rng.random() < 0.5 else None
        text = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
        return self.encode(text + "<|im_start|>user\n")

    def prose(self, length):
        """A run of a book."""
        sequence = Sequence()
        book = self.rng.choices(self.books, [len(b.tokens) for b in self.books])[0]
        last = max(1, np.searchsorted(book.paragraphs, len(book.tokens) - length))
        start = int(book.paragraphs[self.rng.randrange(last)])
        ids = book.tokens[start:start + length].tolist()
        sequence.add(ids[:1])
        sequence.add(ids[1:], PROSE)
        return sequence

    def continuation(self, length):
        """A conversation in which the user asks to go on with a text."""
        book = self.rng.choices(self.books, [len(b.tokens) for b in self.books])[0]
        marks = book.paragraphs
        first = self.rng.randrange(len(marks) - 40)
        middle = first + self.rng.randint(1, 8)
        last = middle + self.rng.randint(2, 24)
        text, rest = (self.tokenizer.decode(book.tokens[marks[a]:marks[b]]).strip()
                      for a, b in ((first, middle), (middle, last)))
        sequence = Sequence()
        sequence.add(self.chat_head())
        text = self.facts["continueRequest"].format(text=text)
        sequence.add(self.encode(text + "<|im_end|>\n<|im_start|>assistant\n")[: length // 2])
        sequence.add(self.encode(rest + "<|im_end|>"), PROSE)
        return sequence


def fill(form, key, **more):
    """Put a key's words into a template."""
    attribute, adjective, noun = key
    return form.format(attribute=attribute, adjective=adjective, noun=noun, **more)


def training_books(folder, tokenizer):
    """Training books cleaned and raw, and the last 3 % of each for validation."""
    books = load_books(folder, tokenizer, held_out=False)
    raw = load_books(folder, tokenizer, held_out=False, raw=True)
    return [b.cut(0, 0.97) for b in books], [b.cut(0, 0.96) for b in raw], [b.cut(0.97, 1) for b in books]


def recall_task(generator, length):
    """A recall sequence with a random number of facts, questions and forms."""
    rng, most = generator.rng, max(4, min(64, length // 40))
    facts = min(most, rng.choice([1, rng.randint(2, 8), rng.randint(4, most), rng.randint(4, most)]))
    questions = min(rng.randint(1, facts + 2), max(4, length // 45))
    return generator.recall(length, facts, questions, rng.random() < 0.5, 0.1)


def prose_task(generator, length):
    """Prose, or a conversation that continues prose."""
    chat = length < 3000 and generator.rng.random() < 0.15
    return (generator.continuation if chat else generator.prose)(length)


def mixed_task(generator, length):
    """Mostly recall within scored prose, and a little prose alone."""
    draw = generator.rng.random()
    if draw < 0.10:
        return generator.prose(length)
    if draw < 0.14 and length < 5000:
        return generator.continuation(length)
    return recall_task(generator, length)


TASKS = {"M": mixed_task, "R": recall_task, "P": prose_task}


def make_rows(generator, kind, length, count):
    """One batch as an array (3, count, length): ids, labels, kinds."""
    generator.score_haystack = kind == "M"
    return np.stack([TASKS[kind](generator, length).padded(length) for _ in range(count)], axis=1)
