"""Train the demo checkpoint: one command from books to a finished model folder."""

import argparse
import json
import math
import random
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from data import ANSWER, PROSE, Generator, load_facts, make_rows, training_books
from model import CONFIG, Model, init_weights, save_checkpoint
from quant import straight_through
from stages import STAGES
from tokenizer import save_tokenizer, train_tokenizer


class Steps(IterableDataset):
    """The batches of a stage; each worker makes every n-th one."""

    def __init__(self, tokenizer_file, corpus, stage, seed):
        self.tokenizer_file, self.corpus, self.stage, self.seed = tokenizer_file, corpus, stage, seed

    def __iter__(self):
        worker, stage = get_worker_info(), self.stage
        tokenizer = Tokenizer.from_file(self.tokenizer_file)
        books, raw, _ = training_books(self.corpus, tokenizer)
        generator = Generator(tokenizer, books, raw, 0)
        for step in range(worker.id, stage.steps, worker.num_workers):
            generator.rng = random.Random(f"{self.seed}/{stage.name}/{step}")
            mix = next(m for end, m in stage.phases if step < end * stage.steps)
            length = generator.rng.choices(list(mix), list(mix.values()))[0]
            yield torch.from_numpy(make_rows(generator, kind_of(step, stage), length, stage.tokens // length))


def kind_of(step, stage):
    """What a step trains on."""
    return stage.pattern[step % len(stage.pattern)]


def learning_rate(step, stage):
    """Short warm-up, flat, then a decay to a fiftieth."""
    horizon = stage.horizon or stage.steps
    left = (horizon - step) / (horizon * stage.decay)
    return stage.rate * min(1.0, (step + 1) / stage.warmup) * (0.02 + 0.98 * min(1.0, left))


def losses_of(model, weights, batch, stage, dropout):
    """Mean losses on the answers and on a sample of the prose; nothing scored is zero."""
    ids, labels, kinds = batch.long()
    states = model.hidden(weights, ids, dropout)
    rows = torch.arange(kinds.numel(), device=kinds.device).view_as(kinds)[:, :-1]
    answers, prose = (rows[kinds[:, 1:] == kind] for kind in (ANSWER, PROSE))
    prose = prose[torch.randperm(len(prose), device=prose.device)[: stage.prose_sample]]
    return [F.cross_entropy(model.logits(weights, states[where]), labels.reshape(-1)[where + 1])
            if len(where) else states.sum() * 0 for where in (answers, prose)]


@torch.no_grad()
def validate(model, weights, books, device, length=1024):
    """Mean loss on the unseen ends of the training books."""
    rows = [torch.from_numpy(b.tokens[i:i + length + 1]).long() for b in books
            for i in range(0, len(b.tokens) - length - 1, length)]
    ids = torch.stack(rows).to(device)
    states = model.hidden(weights, ids[:, :-1])
    return F.cross_entropy(model.logits(weights, states), ids[:, 1:].reshape(-1)).item()


def make_optimizer(weights, stage):
    """AdamW with decay on matrices only."""
    groups = [{"params": [w for w in weights.values() if w.dim() > 1], "weight_decay": stage.weight_decay},
              {"params": [w for w in weights.values() if w.dim() == 1], "weight_decay": 0.0}]
    fused = next(iter(weights.values())).is_cuda
    return torch.optim.AdamW(groups, lr=stage.rate, betas=(0.9, 0.98), eps=1e-9, fused=fused)


class Log:
    """Mean losses since the last line."""

    def __init__(self, stage, device):
        self.name, self.begun = stage.name, time.time()
        self.sums = torch.zeros(2, 2, device=device)

    def add(self, losses):
        """Count one step; a loss of zero means that there was nothing to score."""
        values = torch.stack([loss.detach() for loss in losses])
        self.sums += torch.stack([values, (values != 0).float()])

    def write(self, step, unseen):
        """Print a line, and stop the run if the losses are no numbers."""
        answers, prose = (self.sums[0] / self.sums[1].clamp_min(1)).tolist()
        print(json.dumps({"stage": self.name, "step": step, "answers": round(answers, 4), "prose": round(prose, 4),
                          "unseen": round(unseen, 4), "seconds": round(time.time() - self.begun, 1)}), flush=True)
        if not math.isfinite(unseen):
            raise SystemExit(f"loss is not finite at step {step}")
        self.sums.zero_()


def run_stage(stage, weights, models, unseen, args, device):
    """Train through one stage, changing the weights in place."""
    before = {name: w.detach().clone() for name, w in weights.items()}
    optimizer, log = make_optimizer(weights, stage), Log(stage, device)
    tokenizer_file = str(Path(args.out) / "tokenizer.json")
    data = DataLoader(Steps(tokenizer_file, args.corpus, stage, args.seed), batch_size=None,
                      num_workers=args.workers, prefetch_factor=8, pin_memory=device == "cuda")
    for step, batch in enumerate(data):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, stage)
        rounded = step >= stage.quantize_from * stage.steps and step % 2
        used = straight_through(weights) if rounded else weights
        dropout = stage.prose_dropout if kind_of(step, stage) == "P" else stage.dropout
        losses = losses_of(models[0], used, batch.to(device, non_blocking=True), stage, dropout)
        (losses[0] + stage.prose_weight * losses[1]).backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        log.add(losses)
        if (step + 1) % args.log == 0 or step + 1 == stage.steps:
            log.write(step + 1, validate(models[1], weights, unseen, device))
    for name, w in weights.items():
        w.data.lerp_(before[name], stage.keep)


def train(args, device):
    """Tokenizer, all stages, checkpoint."""
    out = Path(args.out)
    save_tokenizer(train_tokenizer(args.corpus, load_facts()), out)
    _, _, unseen = training_books(args.corpus, Tokenizer.from_file(str(out / "tokenizer.json")))
    weights = {n: w.to(device).requires_grad_() for n, w in init_weights(CONFIG, args.seed).items()}
    models = Model(CONFIG, torch.bfloat16, compiled=device == "cuda"), Model(CONFIG, torch.bfloat16)
    for stage in STAGES:
        short = replace(stage, steps=max(1, round(stage.steps * args.part)),
                        horizon=round(stage.horizon * args.part))
        run_stage(short, weights, models, unseen, args, device)
        save_checkpoint(weights, CONFIG, out)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True, help="folder with the books, pgNNN.txt")
    parser.add_argument("--out", required=True, help="folder for the checkpoint")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=14, help="processes that make batches")
    parser.add_argument("--log", type=int, default=150, help="steps between lines of figures")
    parser.add_argument("--part", type=float, default=1.0, help="part of all steps, for trying things out")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    train(args, "cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
