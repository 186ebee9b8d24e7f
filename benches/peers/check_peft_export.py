#!/usr/bin/env python3
"""Loads what `cargo xtask export` wrote into transformers + PEFT and compares log-probabilities with our own.

    cargo xtask export --run first --preference 0.3,0.7 --format peft --out exported/peft
    cargo xtask export --run first --preference 0.3,0.7 --format merged --out exported/merged
    cargo xtask score --model MODEL --run first --preference 0.3,0.7 --input records.jsonl > scores.jsonl
    python check_peft_export.py MODEL exported/peft scores.jsonl --records records.jsonl --merged exported/merged

records.jsonl holds {"prompt": text or list of messages, "response": text}; scores.jsonl the lines of `score` in the
same order, with "sum_logprob" and "tokens". Without --records each line of scores.jsonl must hold both.

Prints one JSON line for each form (PEFT adapter, merged model) with the largest differences. Exits with 1 where a
sum of log-probabilities differs by more than --tolerance, a number of tokens differs, or the adapter changes
nothing (an adapter that was not loaded would otherwise pass when it is small).
"""

import argparse
import json
import sys

from common import open_model, open_tokenizer, read_jsonl, stop


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="base model: Hugging Face folder or GGUF file")
    parser.add_argument("adapter", help="folder of the PEFT export")
    parser.add_argument("expected", help="JSONL printed by `cargo xtask score`")
    parser.add_argument("--records", help="JSONL that was given to `score` as --input")
    parser.add_argument("--merged", help="folder of the merged export of the same preference, compared as well")
    parser.add_argument("--tolerance", type=float, default=0.02, help="on a sum of log-probabilities (default 0.02)")
    parser.add_argument("--end-of-turn", help="token that ends a response (default: the tokenizer's EOS token)")
    return parser.parse_args()


def main():
    options = arguments()
    expected = read_jsonl(options.expected)
    records = read_jsonl(options.records) if options.records else expected
    require(options.expected, expected, ("sum_logprob", "tokens"))
    require(options.records or options.expected, records, ("prompt", "response"))
    if len(records) != len(expected):
        stop(f"{options.records} has {len(records)} records, {options.expected} has {len(expected)} scores")

    tokenizer = open_tokenizer(options.base)
    encoded = [encode(tokenizer, record, options.end_of_turn) for record in records]

    from peft import PeftModel

    base = open_model(options.base).eval()
    of_base = [log_prob(base, *ids) for ids in encoded]
    policy = PeftModel.from_pretrained(base, options.adapter).eval()
    of_adapter = [log_prob(policy, *ids) for ids in encoded]
    passed = report("peft", encoded, of_adapter, expected, of_base, options.tolerance)
    del policy, base
    if options.merged:
        merged = open_model(options.merged).eval()
        of_merged = [log_prob(merged, *ids) for ids in encoded]
        passed &= report("merged", encoded, of_merged, expected, of_base, options.tolerance)
    sys.exit(0 if passed else 1)


def require(file, records, fields):
    if not records:
        stop(f"{file}: no records")
    for number, record in enumerate(records, start=1):
        for field in fields:
            if field not in record:
                stop(f"{file}: record {number} has no field {field!r}")


def encode(tokenizer, record, end_of_turn):
    """The prompt through the chat template, and the response followed by the end-of-turn token, each as ids."""
    prompt = record["prompt"]
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    end = tokenizer.convert_tokens_to_ids(end_of_turn) if end_of_turn else tokenizer.eos_token_id
    # The template has written a BOS token already where the model wants one.
    prompt_ids = tokenizer(text, add_special_tokens=False).input_ids
    return prompt_ids, tokenizer(record["response"], add_special_tokens=False).input_ids + [end]


def log_prob(model, prompt, response):
    """log π(response | prompt), summed over the tokens of the response."""
    import torch

    ids = torch.tensor([prompt + response])
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1].double()
    return logits.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None]).sum().item()


def report(form, encoded, found, expected, of_base, tolerance):
    differences = [abs(ours["sum_logprob"] - theirs) for ours, theirs in zip(expected, found)]
    tokens = [len(response) for _, response in encoded]
    miscounted = [n for n, (ours, count) in enumerate(zip(expected, tokens), start=1) if ours["tokens"] != count]
    largest = max(range(len(differences)), key=differences.__getitem__)
    effect = max(abs(adapted - plain) for adapted, plain in zip(found, of_base))
    passed = all(difference <= tolerance for difference in differences) and not miscounted and effect > tolerance
    print(
        json.dumps(
            {
                "form": form,
                "records": len(found),
                "largest_difference": differences[largest],
                "at_record": largest + 1,
                "largest_difference_per_token": max(d / n for d, n in zip(differences, tokens)),
                "records_with_other_token_count": miscounted,
                "largest_effect_of_adapter": effect,
                "tolerance": tolerance,
                "passed": passed,
            }
        ),
        flush=True,
    )
    return passed


if __name__ == "__main__":
    main()
