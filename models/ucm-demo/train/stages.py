"""The stages of training, in order."""

from dataclasses import dataclass

MIXED, RECALL, PROSE_ONLY = "M", "R", "P"
"""Kinds of steps: recall within scored prose, recall alone, prose alone."""


@dataclass(frozen=True)
class Stage:
    """How a part of the training is done."""

    name: str
    steps: int
    tokens: int
    """Tokens of one step, whatever the length of its sequences."""
    phases: tuple
    """(part of the stage, {length: how often}): which lengths are drawn until when."""
    pattern: str
    """The kinds of steps, repeated."""
    rate: float
    warmup: int
    decay: float
    """Part of the horizon in which the rate falls."""
    weight_decay: float
    dropout: float
    prose_dropout: float
    prose_sample: int
    """Most prose tokens scored in a step."""
    prose_weight: float
    quantize_from: float
    """Part of the stage after which every other step rounds the weights to 4 bits."""
    horizon: int = 0
    """Steps after which the rate would reach its end; the stage's own if 0."""
    keep: float = 0.0
    """Share of the weights from before the stage in those after it."""


LEARN = Stage(
    name="learn", steps=4500, tokens=67584, pattern=MIXED, rate=2e-3, warmup=200, decay=0.6, weight_decay=0.1,
    dropout=0.1, prose_dropout=0.1, prose_sample=6000, prose_weight=0.5, quantize_from=0.75,
    phases=(
        (0.20, {528: 1}),
        (0.35, {528: 3, 1056: 3, 2112: 2}),
        (0.55, {528: 2, 1056: 2, 2112: 3, 4224: 3}),
        (0.75, {528: 1, 1056: 2, 2112: 2, 4224: 3, 8448: 3}),
        (1.00, {528: 1, 1056: 2, 2112: 2, 4224: 3, 8448: 4, 16896: 4, 33792: 0.5}),
    ),
)
SETTLE = Stage(
    name="settle", steps=545, horizon=2000, tokens=16896, pattern=RECALL + PROSE_ONLY, rate=1.5e-3, warmup=50,
    decay=1.0, weight_decay=0.5, dropout=0.1, prose_dropout=0.25, prose_sample=16384, prose_weight=1.0,
    quantize_from=1.0, keep=0.1,
    phases=((1.00, {528: 1, 1056: 2, 2112: 2, 4224: 3, 8448: 3, 16896: 3}),),
)
STAGES = (LEARN, SETTLE)
