#!/usr/bin/env python3
"""Trains base/: a chat model of 0.7 million parameters that answers the questions of menus.jsonl.

It is a Llama of the same family as the real models, with a byte-level BPE tokenizer of its own, trained by plain
supervised learning to give every answer of a question's menu with the same probability: the policy that
preferences are then learned from. Weights are stored as bfloat16.

    pip install -r ../../benches/peers/requirements.txt
    python3 make_base.py
"""

import json
import math
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
SEED = 7
STEPS = 700
LEARNING_RATE = 4e-3
USER, ASSISTANT, END, PAD = "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=768,
        special_tokens=[PAD, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def main():
    torch.manual_seed(SEED)
    menus = [json.loads(line) for line in open(HERE / "menus.jsonl", encoding="utf-8")]
    texts = [text for menu in menus for text in [menu["prompt"], *menu["responses"]]]
    tokenizer = make_tokenizer(texts)

    sequences, answers = [], []
    for menu in menus:
        prompt = f"{USER}{menu['prompt']}{END}{ASSISTANT}"
        for response in menu["responses"]:
            start = len(tokenizer(prompt)["input_ids"])
            tokens = tokenizer(prompt)["input_ids"] + tokenizer(response + END)["input_ids"]
            sequences.append(tokens)
            answers.append([-100] * start + tokens[start:])
    longest = max(map(len, sequences))
    pad = lambda rows, value: torch.tensor([row + [value] * (longest - len(row)) for row in rows])
    tokens, labels = pad(sequences, tokenizer.pad_token_id), pad(answers, -100)
    mask = pad([[1] * len(row) for row in sequences], 0)

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens, longest sequence {longest}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS, pct_start=0.05)
    order = torch.Generator().manual_seed(SEED)
    for step in range(STEPS):
        batch = torch.randperm(len(tokens), generator=order)[:80]
        logits = model(input_ids=tokens[batch], attention_mask=mask[batch]).logits
        # Summed over a sequence: the probability of whole answers is what has to be right.
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[batch][:, 1:].flatten(), ignore_index=-100, reduction="sum"
        )
        loss = losses / len(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}: {loss.item():.4f} nats an answer, at best {math.log(len(menus[0]['responses'])):.4f}")

    model.to(torch.bfloat16).eval().save_pretrained(HERE / "base")
    tokenizer.save_pretrained(HERE / "base")


if __name__ == "__main__":
    main()
