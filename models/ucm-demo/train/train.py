"""Train the demo checkpoint: one command from books to a finished model folder."""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from data import ANSWER, PROSE, Generator, load_facts, training_books, training_rows
from model import CONFIG, Model, init_weights, save_checkpoint
from quant import straight_through
from tokenizer import save_tokenizer, train_tokenizer

TOKENS = 67584
"""Tokens of one step, whatever the length of its sequences."""
PHASES = [
    (0.20, {528: 1}),
    (0.35, {528: 3, 1056: 3, 2112: 2}),
    (0.55, {528: 2, 1056: 2, 2112: 3, 4224: 3}),
    (0.75, {528: 1, 1056: 2, 2112: 2, 4224: 3, 8448: 3}),
    (1.00, {528: 1, 1056: 2, 2112: 2, 4224: 3, 8448: 4, 16896: 4, 33792: 0.5}),
]
"""Up to which part of the run which lengths are drawn, and how often."""


class Steps(IterableDataset):
    """Batches by step number; each worker makes every n-th one."""

    def __init__(self, tokenizer_file, corpus, first, last, seed):
        self.tokenizer_file, self.corpus = tokenizer_file, corpus
        self.first, self.last, self.seed = first, last, seed
        self.total = last

    def __iter__(self):
        worker = get_worker_info()
        tokenizer = Tokenizer.from_file(self.tokenizer_file)
        books, raw, _ = training_books(self.corpus, tokenizer)
        generator = Generator(tokenizer, books, raw, 0)
        for step in range(self.first + worker.id, self.last, worker.num_workers):
            generator.rng = random.Random(self.seed * 1000003 + step)
            mix = next(m for end, m in PHASES if step < end * self.total or end == 1.0)
            length = generator.rng.choices(list(mix), list(mix.values()))[0]
            yield torch.from_numpy(training_rows(generator, length, TOKENS // length))


def learning_rate(step, args):
    """Short warm-up, flat, then a long decay to a fiftieth."""
    warm = min(1.0, (step + 1) / args.warmup)
    left = (args.steps - step) / (args.steps * args.decay)
    return args.rate * warm * (0.02 + 0.98 * min(1.0, left))


def scored(kinds, args):
    """Positions whose next token is scored: all answers, and a sample of prose."""
    following = kinds[:, 1:]
    rows = torch.arange(kinds.numel(), device=kinds.device).view_as(kinds)[:, :-1]
    prose = rows[following == PROSE]
    prose = prose[torch.randperm(len(prose), device=prose.device)[: args.prose]]
    return rows[following == ANSWER], prose


def loss_of(model, weights, batch, args, dropout):
    """Mean losses on answers and on prose."""
    ids, labels, kinds = batch.long()
    states = model.hidden(weights, ids, dropout)
    answers, prose = scored(kinds, args)
    flat = labels.reshape(-1)
    parts = []
    for where in (answers, prose):
        logits = model.logits(weights, states[where])
        parts.append(F.cross_entropy(logits, flat[where + 1]) if len(where) else states.sum() * 0)
    return parts


@torch.no_grad()
def validate(model, weights, books, device, length=1024):
    """Mean loss on the unseen ends of the training books."""
    rows = [torch.from_numpy(b.tokens[i:i + length + 1]).long() for b in books
            for i in range(0, len(b.tokens) - length - 1, length)]
    ids = torch.stack(rows).to(device)
    states = model.hidden(weights, ids[:, :-1])
    return F.cross_entropy(model.logits(weights, states), ids[:, 1:].reshape(-1)).item()


def make_optimizer(weights, args):
    """AdamW with decay on matrices only."""
    groups = [{"params": [w for w in weights.values() if w.dim() > 1], "weight_decay": args.decay_weights},
              {"params": [w for w in weights.values() if w.dim() == 1], "weight_decay": 0.0}]
    fused = next(iter(weights.values())).is_cuda
    return torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.98), eps=1e-9, fused=fused)


def train(args, device):
    """Run all steps, writing a line every `log` steps and the checkpoint at the end."""
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    save_tokenizer(train_tokenizer(args.corpus, load_facts()), out)
    tokenizer_file = str(out / "tokenizer.json")
    _, _, unseen = training_books(args.corpus, Tokenizer.from_file(tokenizer_file))
    weights = {n: w.to(device).requires_grad_() for n, w in init_weights(CONFIG, args.seed).items()}
    optimizer = make_optimizer(weights, args)
    cuda = device == "cuda"
    model = Model(CONFIG, torch.bfloat16, compiled=cuda)
    plain = Model(CONFIG, torch.bfloat16)
    first = resume(args, weights, optimizer, device)
    data = DataLoader(Steps(tokenizer_file, args.corpus, first, args.steps, args.seed), batch_size=None,
                      num_workers=args.workers, prefetch_factor=8, pin_memory=cuda)
    begun, sums = time.time(), torch.zeros(3, device=device)
    for step, batch in enumerate(data, first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args)
        late = step >= args.quantize_from * args.steps
        used = straight_through(weights) if late and step % 2 else weights
        answer, prose = loss_of(model, used, batch.to(device, non_blocking=True), args, args.dropout)
        (answer + args.prose_weight * prose).backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        sums += torch.stack([answer.detach(), prose.detach(), torch.ones_like(answer)])
        if (step + 1) % args.log == 0 or step + 1 == args.steps:
            means = (sums[:2] / sums[2]).tolist()
            unseen_loss = validate(plain, weights, unseen, device)
            line = {"step": step + 1, "length": batch.shape[2], "answers": round(means[0], 4),
                    "prose": round(means[1], 4), "unseen": round(unseen_loss, 4),
                    "seconds": round(time.time() - begun, 1)}
            if not math.isfinite(means[0] + means[1]):
                raise SystemExit(f"loss is not finite at step {step + 1}")
            print(json.dumps(line), flush=True)
            sums.zero_()
        if args.state and ((step + 1) % 500 == 0 or time.time() - begun > args.stop_after):
            torch.save({"step": step + 1, "weights": weights, "optimizer": optimizer.state_dict()}, args.state)
        if time.time() - begun > args.stop_after:
            break
    save_checkpoint(weights, CONFIG, out)


def resume(args, weights, optimizer, device):
    """Load a saved state, if there is one, and return the first step to run."""
    if not args.state or not Path(args.state).exists():
        return 0
    state = torch.load(args.state, map_location=device)
    for name, value in state["weights"].items():
        weights[name].data.copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True, help="folder with the books, pgNNN.txt")
    parser.add_argument("--out", required=True, help="folder for the checkpoint")
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--decay", type=float, default=0.6, help="part of the run in which the rate decays")
    parser.add_argument("--decay-weights", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--prose", type=int, default=4096, help="prose tokens scored per step")
    parser.add_argument("--prose-weight", type=float, default=0.5)
    parser.add_argument("--quantize-from", type=float, default=0.75, help="part of the run after which every other step rounds to 4 bits")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--log", type=int, default=250)
    parser.add_argument("--state", help="file to save to and to resume from")
    parser.add_argument("--stop-after", type=float, default=math.inf, help="seconds after which to stop early")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    train(args, "cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
