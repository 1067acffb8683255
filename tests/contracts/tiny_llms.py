"""Tiny random language models whose tokenizers split text as those of Qwen, Gemma and Llama do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.contracts.tiny_models import WORDS

# The pattern that the tokenizer.json of Qwen2 and Qwen3 states.
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PROSE = [
    " ".join(WORDS),
    "query: what is a river?\ndocument: stone.\n\nA: garden\nB: window\n",
    '<Query>: why?\n<Document>: because!\n\n<Instruct>: retrieve ("passages").\n',
    *("yes", "no", "Yes", "No"),
    "yes no Yes No 1 0 caf\u00e9 na\u00efve",
] * 5
TEXTS = [
    "what is a river?",
    "stone garden",
    "",
    " window.",
    "engine\n",
    "\nmarket",
    "(silver)!",
    "caf\u00e9 \u4e2d: 1 0",
    "a  b?\n\n",
]
"""Texts whose ends tokenizers join with what stands beside them."""
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 4096,
}


def write_llm(folder: Path, kind: str, *, classifier: bool = False) -> Path:
    """`kind`: qwen2, qwen3, gemma or llama; a `classifier` has one output instead of a language-model head."""
    tokenizer = _qwen() if kind.startswith("qwen") else _sentence_pieces(kind)
    tokenizer.save_pretrained(folder)
    ids = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id}
    config = transformers.AutoConfig.for_model(
        kind, **SIZES, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, num_labels=1, **ids
    )
    auto = transformers.AutoModelForSequenceClassification if classifier else transformers.AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = auto.from_config(config)
        for parameter in model.parameters():
            # Larger than a fresh model's, so that scores differ by more than rounding.
            parameter.data *= 4 if parameter.dim() > 1 else 1
        model.save_pretrained(folder)
    return folder


def _qwen() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(QWEN_WORDS), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=specials, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(PROSE, trainer)
    tokenizer.add_tokens(["<think>", "</think>"])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )


def _sentence_pieces(kind: str) -> Any:
    """SentencePiece's way: spaces are letters of words; Llama also puts one before each stretch of text."""
    specials = ["<pad>", "<bos>" if kind == "gemma" else "<s>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=[*specials, *pieces, "\n"])
    tokenizer.train_from_iterator(PROSE, trainer)
    steps = [normalizers.Replace(" ", "\u2581")]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), *steps] if kind == "llama" else steps)
    tokenizer.pre_tokenizer = None
    bos = specials[1]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token=bos, eos_token="</s>", unk_token="<unk>"
    )
