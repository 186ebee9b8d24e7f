#!/usr/bin/env python3
"""Writes tiny_classifiers/: two sequence classifiers of transformers with random weights, and what they answer.

Each folder is what `save_pretrained` writes. expected.json in it holds token sequences of different lengths and, for each,
the logits that transformers computes in float64 (but for norms and rotary angles, for which it insists on float32): the
`score` head on the last token's hidden state.

    pip install -r ../../benches/peers/requirements.txt
    python3 make_classifiers.py
"""

import json
from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    Qwen2Config,
    Qwen2ForSequenceClassification,
)

HERE = Path(__file__).parent / "tiny_classifiers"
SEED = 11
VOCABULARY = 96
LENGTHS = [2, 3, 7, 19, 40]
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def main():
    # The Llama has one output, as reward models mostly do, and its configuration a head of its own in name only; the
    # Qwen2 has three outputs with names.
    llama = LlamaConfig(**SHAPE, num_labels=1, tie_word_embeddings=False)
    names = {0: "helpful", 1: "concise", 2: "harmless"}
    ids = {name: index for index, name in names.items()}
    qwen2 = Qwen2Config(**SHAPE, id2label=names, label2id=ids, tie_word_embeddings=True)
    write("llama", LlamaForSequenceClassification, llama)
    write("qwen2", Qwen2ForSequenceClassification, qwen2)


def write(name, architecture, config):
    torch.manual_seed(SEED)
    model = architecture(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            # Norms near 1 and all else, biases too, large enough to be seen in every logit.
            centre = 1.0 if "norm" in key else 0.0
            parameter.copy_(centre + 0.2 * torch.randn(parameter.shape))
    model.save_pretrained(HERE / name)

    tokens = [torch.randint(3, VOCABULARY, (length,)).tolist() for length in LENGTHS]
    model = model.double()
    with torch.no_grad():
        logits = [model(torch.tensor([ids])).logits[0].tolist() for ids in tokens]
    labels = [config.id2label[i] for i in range(config.num_labels)]
    expected = {"labels": labels, "tokens": tokens, "logits": logits}
    (HERE / name / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
