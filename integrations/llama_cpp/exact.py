"""How exact log-probabilities are: llama.cpp's, ours and transformers' in 32 bits, against transformers in 64 bits.

    python exact.py PANACEA --model FOLDER_OR_GGUF

PANACEA is the binary. Of a model of the Llama family without an adapter, in 32 bits. Called by hand, from the root of the
repository, in an environment with requirements.txt and torch, transformers and gguf.
"""

import argparse
import json
import math
import random
import sys
import tempfile
import urllib.request
from pathlib import Path

import torch
import transformers
from transformers.models.llama import modeling_llama

# It stands among the sources.
sys.dont_write_bytecode = True
from check import RECORDS, LlamaServer, panacea, post


def in_64_bits(model):
    """The model with every step in 64 bits; transformers keeps 32 for norms, angles and softmax whatever the weights have."""
    config = model.config
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    theta = config.rope_parameters["rope_theta"]
    frequencies = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)

    def angles(_, x, position_ids):
        angles = (position_ids[..., None].double() * frequencies).repeat(1, 1, 2)
        return angles.cos(), angles.sin()

    def norm(self, x):
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)

    softmax = torch.nn.functional.softmax
    modeling_llama.LlamaRotaryEmbedding.forward = angles
    modeling_llama.LlamaRMSNorm.forward = norm
    torch.nn.functional.softmax = lambda x, dim=-1, dtype=None: softmax(x, dim=dim)
    return model.double()


def sums(model, answers):
    """The log-probability of each response, whose tokens stand behind those of its prompt."""
    found = []
    for prompt, response in answers:
        with torch.no_grad():
            logits = model(torch.tensor([prompt + response[:-1]])).logits[0, len(prompt) - 1 :]
        log_probs = torch.log_softmax(logits.double(), -1)
        found.append(sum(log_probs[i, token].item() for i, token in enumerate(response)))
    return found


def of_llama_cpp(server, answers):
    """The same as its server gives them, and normalised over the whole vocabulary."""
    given, normalised = [], []
    for prompt, response in answers:
        as_given = total = 0.0
        for i, token in enumerate(response):
            body = {"prompt": prompt + response[:i], "n_predict": 1, "n_probs": 1 << 20, "temperature": 0}
            top = post(server.url, "/completion", body)["completion_probabilities"][0]["top_logprobs"]
            (found,) = [candidate["logprob"] for candidate in top if candidate["id"] == token]
            as_given += found
            total += found - math.log(math.fsum(math.exp(candidate["logprob"]) for candidate in top))
        given.append(as_given)
        normalised.append(total)
    return given, normalised


def main():
    """Prints the largest error of a sum for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("panacea", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--records", type=Path, default=Path("datasets/quickstart/menus.jsonl"))
    parser.add_argument("--end-of-turn", type=int, default=2, help="the id of the token that ends a turn")
    options = parser.parse_args()
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
    records = [json.loads(line) for line in options.records.read_text().splitlines()]
    records = [{"prompt": record["prompt"], "response": response} for record in records for response in record["responses"]]
    records = random.Random(7).sample(records, RECORDS)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        binary, given = options.panacea.resolve(), folder / "records.jsonl"
        form = ["--format", "gguf", "--dtype", "f32", "--out", folder / "base.gguf"]
        panacea(binary, "export", "--base", "--model", options.model, *form)
        given.write_text("".join(f"{json.dumps(record)}\n" for record in records))
        scores = panacea(binary, "score", "--model", options.model, "--input", given).splitlines()
        ours = [json.loads(line)["sum_logprob"] for line in scores]

        server = LlamaServer(folder / "base.gguf")
        answers = [
            (server.prompt(record["prompt"]), server.tokens(record["response"]) + [options.end_of_turn]) for record in records
        ]
        tokens = [len(response) for _, response in answers]
        assert tokens == [json.loads(line)["tokens"] for line in scores], tokens
        as_given, normalised = of_llama_cpp(server, answers)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, gguf_file="base.gguf", dtype=torch.float32, attn_implementation="eager"
        )
    of_torch = sums(model, answers)
    exact = sums(in_64_bits(model), answers)
    print(f"{len(answers)} answers, {sum(tokens)} tokens; the largest error of a sum against transformers in 64 bits:")
    names = ["llama.cpp, as given", "llama.cpp, normalised", "transformers, 32 bits", "ours"]
    for name, values in zip(names, [as_given, normalised, of_torch, ours], strict=True):
        errors = [value - true for value, true in zip(values, exact, strict=True)]
        print(f"{name:22} {max(map(abs, errors)):.1e}  ({min(errors):+.1e} to {max(errors):+.1e})")


if __name__ == "__main__":
    main()
