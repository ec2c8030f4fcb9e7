"""Train the byte-level BPE tokenizer and write its two files."""

import argparse
import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from corpus import clean, read_books

VOCAB = 4096
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def fact_lines(facts, count, seed):
    """Sentences in the style of the recall tasks, so that their words get tokens."""
    rng = random.Random(seed)
    forms = facts["statements"] + facts["questions"]
    for _ in range(count):
        yield rng.choice(forms).format(
            attribute=rng.choice(facts["attributes"]),
            adjective=rng.choice(facts["adjectives"]),
            noun=rng.choice(facts["nouns"]),
            value="",
        )


def training_text(folder, facts):
    """All text that the vocabulary is learnt from."""
    for text in read_books(folder, held_out=False).values():
        yield clean(text)
        yield text[: len(text) // 4]
    yield from fact_lines(facts, 9600, seed=7)
    yield from ["system\nuser\nassistant\nQuestion:\nAnswer:\n"] * 3000


def train_tokenizer(folder, facts):
    """Return a tokenizer trained on the training books and on task sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[AddedToken(token, special=True) for token in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(folder, facts), trainer)
    return tokenizer


def save_tokenizer(tokenizer, out):
    """Write tokenizer.json (compact) and tokenizer_config.json."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    data = json.loads(tokenizer.to_str())
    (out / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "additional_special_tokens": SPECIALS[1:],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 32768,
        "added_tokens_decoder": {
            str(i): {"content": token, "lstrip": False, "normalized": False,
                     "rstrip": False, "single_word": False, "special": True}
            for i, token in enumerate(SPECIALS)
        },
        "chat_template": TEMPLATE,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main():
    """Command line: train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    facts = json.loads((Path(__file__).parent / "facts.json").read_text())
    save_tokenizer(train_tokenizer(args.corpus, facts), args.out)


if __name__ == "__main__":
    main()
