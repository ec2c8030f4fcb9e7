"""Measure a checkpoint: perplexity on held-out books and recall of buried facts.

A greedy answer is right when every token of it, its end included, is the
most likely one given the right tokens before it; one pass per prompt tells.
"""

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from corpus import load_books
from data import ANSWER, Generator
from model import Model, load_checkpoint
from quant import quantized, round_int4, round_int4_signed, round_int8

FORMATS = {"bf16": None, "int8": round_int8, "int4": round_int4, "int4 (-8)": round_int4_signed}
MODES = {"single": (1, 0.0), "multi": (8, 0.0), "many": (32, 0.0), "list": (8, 1.0)}
"""Facts in the text, and how often a question asks for two to four of them."""


@torch.no_grad()
def perplexity(model, weights, books, most=None, length=1024):
    """Perplexity per token over consecutive windows, each predicting all but its first token."""
    total = count = 0
    for book in books:
        tokens = torch.from_numpy(book.tokens[:most]).long().to(weights["model.norm.weight"].device)
        for start in range(0, len(tokens) - 1, length):
            ids = tokens[start:start + length + 1][None]
            logits = model.logits(weights, model.hidden(weights, ids[:, :-1]))
            total += F.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
            count += ids.shape[1] - 1
    return math.exp(total / count)


def prompts(generator, length, mode, chat, count):
    """Prompts of between 90 % and 100 % of a length, with their answers."""
    facts, listed = MODES[mode]
    for _ in range(100 * count):
        sequence = generator.recall(length, min(facts, length // 30), 1, chat, listed)
        prompt = sequence.kinds.index(ANSWER)
        if 0.9 * length <= prompt <= length:
            count -= 1
            yield sequence
        if not count:
            return
    raise SystemExit(f"{mode} prompts do not fit into {length} tokens")


@torch.no_grad()
def recall(model, weights, sequences):
    """Part of the prompts that are answered exactly."""
    right = total = 0
    device = weights["model.norm.weight"].device
    for sequence in sequences:
        ids = torch.tensor(sequence.ids, device=device)[None]
        states = model.hidden(weights, ids)
        where = torch.tensor(sequence.kinds, device=device).eq(ANSWER).nonzero()[:, 0]
        best = model.logits(weights, states[where - 1]).argmax(-1)
        labels = torch.tensor(sequence.labels, device=device)[where]
        right += int((best == labels).all())
        total += 1
    return right / total


def recall_table(model, weights, tokenizer, books, args):
    """Accuracy for every length, mode and form."""
    rows = []
    for length in args.lengths:
        for mode in args.modes:
            for chat in (False, True):
                generator = Generator(tokenizer, books, None, f"{args.seed}/{length}/{mode}/{chat}")
                sequences = prompts(generator, length, mode, chat, args.count)
                accuracy = recall(model, weights, sequences)
                rows.append({"length": length, "mode": mode, "form": "chat" if chat else "plain", "accuracy": accuracy})
                print(f"recall {length:6d} {mode:7s} {rows[-1]['form']:6s} {100 * accuracy:6.1f} %", flush=True)
    return rows


@torch.no_grad()
def continue_text(model, weights, tokenizer, text, tokens=60):
    """Greedy continuation of a text."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    device = weights["model.norm.weight"].device
    for _ in range(tokens):
        states = model.hidden(weights, torch.tensor(ids, device=device)[None])
        ids.append(int(model.logits(weights, states[-1:]).argmax()))
    return tokenizer.decode(ids, skip_special_tokens=False)


def prose_figures(model, forms, tokenizer, books, args):
    """Print and return the perplexity of every weight format, and show some continuations."""
    figures = {}
    for name, weights in forms.items():
        value = figures[name] = perplexity(model, weights, books, args.prose_tokens)
        growth = 100 * (value / figures["bf16"] - 1)
        print(f"perplexity {name:10s} {value:9.4f}  growth {growth:+.3f} %", flush=True)
    for text in ("Once upon a time", "Alice looked at the old house and", "The captain said"):
        print(repr(continue_text(model, forms["bf16"], tokenizer, text)), flush=True)
    return {"perplexity": figures}


def main():
    """Command line: print every figure, and write them as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(Path(__file__).parent.parent))
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--formats", nargs="+", default=["bf16"], choices=list(FORMATS), help="weight formats to test recall in")
    parser.add_argument("--arithmetic", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--prose-tokens", type=int, help="use only so many tokens of each book for perplexity")
    parser.add_argument("--skip-prose", action="store_true", help="test recall alone")
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False
    config, weights = load_checkpoint(args.model, device)
    tokenizer = Tokenizer.from_file(str(Path(args.model) / "tokenizer.json"))
    books = load_books(args.corpus, tokenizer, held_out=True)
    model = Model(config, getattr(torch, args.arithmetic))
    forms = {name: quantized(weights, rounding) if rounding else weights for name, rounding in FORMATS.items()}
    figures = {"recall": {}} if args.skip_prose else {"recall": {}, **prose_figures(model, forms, tokenizer, books, args)}
    for name in args.formats:
        print(f"weights {name}")
        figures["recall"][name] = recall_table(model, forms[name], tokenizer, books, args)
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
