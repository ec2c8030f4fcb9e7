"""Simulated round-to-nearest weight quantization."""

import torch

from model import EMBEDDING


def round_int4(weight, block=32):
    """Symmetric 4-bit values per block of 32 inputs, scale = max / 7."""
    grouped = weight.reshape(weight.shape[0], -1, block)
    scale = grouped.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 7
    return ((grouped / scale).round().clamp(-8, 7) * scale).reshape(weight.shape)


def round_int4_signed(weight, block=32):
    """Like `round_int4`, but the value largest in magnitude becomes exactly -8."""
    grouped = weight.reshape(weight.shape[0], -1, block)
    largest = grouped.gather(-1, grouped.abs().argmax(-1, keepdim=True))
    scale = torch.where(largest == 0, torch.ones_like(largest), largest) / -8
    return ((grouped / scale).round().clamp(-8, 7) * scale).reshape(weight.shape)


def round_int8(weight):
    """Symmetric 8-bit values per output channel, scale = max / 127."""
    scale = weight.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
    return (weight / scale).round().clamp(-127, 127) * scale


def is_matrix(name):
    """Whether a weight is the matrix of a linear layer."""
    return name.endswith("_proj.weight")


def quantized(weights, rounding):
    """Weights with every linear layer rounded, the output head too (not the embedding)."""
    rounded = {name: rounding(w) if is_matrix(name) else w for name, w in weights.items()}
    rounded["lm_head.weight"] = rounding(weights[EMBEDDING])
    return rounded


def straight_through(weights, rounding=round_int4):
    """Rounded weights for the forward pass whose gradients reach the exact ones."""
    def passed(w):
        return w + (rounding(w.detach()) - w.detach())
    rounded = {name: passed(w) if is_matrix(name) else w for name, w in weights.items()}
    rounded["lm_head.weight"] = passed(weights[EMBEDDING])
    return rounded
