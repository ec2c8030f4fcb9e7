"""The model (Qwen2 layout) over a flat row of tokens, and its checkpoint files."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 768,
    "max_position_embeddings": 32768,
    "max_window_layers": 8,
    "model_type": "qwen2",
    "num_attention_heads": 4,
    "num_hidden_layers": 8,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 4096,
}
GENERATION = {"do_sample": False, "temperature": 0.0, "eos_token_id": [2, 0], "pad_token_id": 0}
EMBEDDING = "model.embed_tokens.weight"


def init_weights(config, seed):
    """Fresh float32 weights under their checkpoint names."""
    torch.manual_seed(seed)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    kv = head * config["num_key_value_heads"]
    depth = (2 * config["num_hidden_layers"]) ** -0.5
    shapes = {"self_attn.q_proj": (hidden, hidden, 1), "self_attn.k_proj": (kv, hidden, 1),
              "self_attn.v_proj": (kv, hidden, 1), "self_attn.o_proj": (hidden, hidden, depth),
              "mlp.gate_proj": (inner, hidden, 1), "mlp.up_proj": (inner, hidden, 1),
              "mlp.down_proj": (hidden, inner, depth)}
    weights = {EMBEDDING: torch.randn(config["vocab_size"], hidden) * 0.03, "model.norm.weight": torch.ones(hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, (rows, columns, factor) in shapes.items():
            weights[f"{prefix}{name}.weight"] = torch.randn(rows, columns) * 0.6 * columns**-0.5 * factor
        for name in "qkv":
            weights[f"{prefix}self_attn.{name}_proj.bias"] = torch.zeros(shapes[f"self_attn.{name}_proj"][0])
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{prefix}{name}.weight"] = torch.ones(hidden)
    return weights


def rope_tables(config, length, device):
    """Cosines and sines (length, head) of the rotary embedding."""
    head = config["hidden_size"] // config["num_attention_heads"]
    frequency = config["rope_theta"] ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency).repeat(1, 2)
    return angle.cos().float().to(device), angle.sin().float().to(device)


def norm(x, weight, epsilon):
    """Root-mean-square normalization."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


def linear(x, weight, bias, dtype):
    """A matrix product in the given precision."""
    return F.linear(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))


def rotate(x, cos, sin):
    """Apply the rotary embedding to (tokens, heads, head)."""
    low, high = x.float().chunk(2, dim=-1)
    turned = torch.cat((-high, low), dim=-1)
    return (x.float() * cos[:, None] + turned * sin[:, None]).to(x.dtype)


def before_attention(x, w, cos, sin, heads, epsilon, dtype):
    """Norm, projections and rotary embedding of one layer."""
    y = norm(x, w["input_layernorm.weight"], epsilon)
    q, k, v = (linear(y, w[f"self_attn.{n}_proj.weight"], w[f"self_attn.{n}_proj.bias"], dtype)
               .view(x.shape[0], -1, x.shape[1] // heads) for n in "qkv")
    return rotate(q, cos, sin), rotate(k, cos, sin), v


def after_attention(x, attended, w, epsilon, dtype, dropout):
    """Output projection and feed-forward part of one layer."""
    x = x + F.dropout(linear(attended, w["self_attn.o_proj.weight"], None, dtype).float(), dropout)
    y = norm(x, w["post_attention_layernorm.weight"], epsilon)
    gate = linear(y, w["mlp.gate_proj.weight"], None, dtype)
    up = linear(y, w["mlp.up_proj.weight"], None, dtype)
    down = linear(F.silu(gate) * up, w["mlp.down_proj.weight"], None, dtype)
    return x + F.dropout(down.float(), dropout)


class Model:
    """Runs weights over batches; holds none of its own."""

    def __init__(self, config, dtype=torch.float32, compiled=False):
        self.config, self.dtype, self.tables = config, dtype, {}
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.before, self.after = wrap(before_attention), wrap(after_attention)

    def hidden(self, weights, ids, dropout=0.0):
        """Final normalized states (batch * length, hidden) of ids (batch, length)."""
        c, (batch, length) = self.config, ids.shape
        if (batch, length) not in self.tables:
            table = rope_tables(c, length, ids.device)
            self.tables = {(batch, length): [t.repeat(batch, 1) for t in table]}
        cos, sin = self.tables[batch, length]
        x = F.dropout(F.embedding(ids.reshape(-1), weights[EMBEDDING]), dropout)
        for layer in range(c["num_hidden_layers"]):
            prefix = f"model.layers.{layer}."
            w = {n[len(prefix):]: t for n, t in weights.items() if n.startswith(prefix)}
            q, k, v = self.before(x, w, cos, sin, c["num_attention_heads"], c["rms_norm_eps"], self.dtype)
            q, k, v = (t.view(batch, length, -1, t.shape[-1]).transpose(1, 2) for t in (q, k, v))
            groups = q.shape[1] // k.shape[1]
            k, v = (t.repeat_interleave(groups, dim=1) for t in (k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            y = y.transpose(1, 2).reshape(batch * length, -1)
            x = self.after(x, y, w, c["rms_norm_eps"], self.dtype, dropout)
        return norm(x, weights["model.norm.weight"], c["rms_norm_eps"])

    def logits(self, weights, states):
        """Scores over the vocabulary in float32."""
        head = weights.get("lm_head.weight", weights[EMBEDDING])
        return linear(states, head, None, self.dtype).float()


def save_checkpoint(weights, config, out):
    """Write config.json, generation_config.json and model.safetensors (bfloat16)."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().to(torch.bfloat16).cpu().contiguous() for name, t in weights.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "generation_config.json").write_text(json.dumps(GENERATION, indent=2) + "\n")


def load_checkpoint(folder, device):
    """Read config and weights, the latter widened to float32."""
    config = json.loads((Path(folder) / "config.json").read_text())
    weights = load_file(Path(folder) / "model.safetensors")
    return config, {name: t.float().to(device) for name, t in weights.items()}
