#!/usr/bin/env python3
"""Seconds and memory of one DPO training step in transformers + PEFT.

    python torch_dpo_step.py --model models/smollm2-135m-instruct
    python torch_dpo_step.py --random-weights --pairs 4 --prompt 128 --response 128 --steps 5

Two forms of the same step, on the same random token ids, each in a process of its own so that its peak memory is
its own:

  usual    as people run it: both responses as whole sequences, the reference policy is a second forward with the
           adapter disabled, logits at every position.
  savings  PyTorch with the savings that Panacea makes: the reference log-probabilities are known before the step,
           both responses of a pair share one forward of their prompt (a block mask keeps them apart), logits at
           response positions only and one pair at a time.

Prints one JSON line a form: the seconds of each timed step, their median, peak resident memory, and the losses. Both
forms take the same steps, so their losses agree; a difference above --loss-tolerance is an error.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

FORMS = ("usual", "savings")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", help="Hugging Face folder or GGUF file")
    model.add_argument("--random-weights", action="store_true", help="SmolLM2-135M's shapes, weights drawn at random")
    parser.add_argument("--form", choices=(*FORMS, "both"), default="both")
    parser.add_argument("--pairs", type=int, default=4, help="pairs a step: twice as many sequences (default 4)")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each prompt (default 128)")
    parser.add_argument("--response", type=int, default=128, help="tokens of each response (default 128)")
    parser.add_argument("--steps", type=int, default=5, help="timed steps (default 5)")
    parser.add_argument("--warm-up", type=int, default=1, help="steps before them that are not timed (default 1)")
    parser.add_argument("--rank", type=int, default=10, help="rank of the LoRA: k + m of Panacea (default 8 + 2)")
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, help="threads of PyTorch (default: what PyTorch chooses)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loss-tolerance", type=float, default=1e-3)
    options = parser.parse_args()
    for name in ("pairs", "prompt", "response", "steps", "rank"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    return options


def main():
    options = arguments()
    if options.form != "both":
        print(json.dumps(measure(options)), flush=True)
        return
    measures = []
    for form in FORMS:
        # argparse takes the last --form, so the one appended here counts.
        command = [sys.executable, __file__, *sys.argv[1:], "--form", form]
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if process.returncode != 0:
            sys.exit(process.returncode if process.returncode > 0 else 128 - process.returncode)
        print(process.stdout, end="", flush=True)
        measures.append(json.loads(process.stdout))
    apart = [abs(a - b) for a, b in zip(*(measure["losses"] for measure in measures))]
    # Each by itself: the largest of all may leave out what is not a number.
    if not all(difference <= options.loss_tolerance for difference in apart):
        sys.exit(f"error: the losses of the two forms are {apart} apart, expected at most {options.loss_tolerance}")


def measure(options):
    # Here and not on top, so that --help answers at once and the process that starts the two forms stays small.
    import common  # noqa: F401  (before torch: it sets the environment)
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    step = {"usual": UsualStep, "savings": SavingStep}[options.form](options)
    batches = [step.batch() for _ in range(options.warm_up + options.steps)]
    losses, seconds = [], []
    for batch in batches:
        start = time.perf_counter()
        losses.append(step.take(batch))
        seconds.append(time.perf_counter() - start)
    timed = seconds[options.warm_up :]
    return {
        "measure": f"dpo_step_{options.form}",
        "seconds": [round(value, 3) for value in timed],
        "median": round(statistics.median(timed), 3),
        "peak_rss_gb": round(peak_rss_gb(), 3),
        "pairs": options.pairs,
        "prompt_tokens": options.prompt,
        "response_tokens": options.response,
        "rank": options.rank,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "losses": [round(value, 6) for value in losses],
    }


def peak_rss_gb():
    """Peak resident memory of this process, in units of 2^30 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # macOS counts bytes, Linux KiB


class Step:
    """A policy with LoRA on every projection, AdamW, and the DPO loss."""

    def __init__(self, options):
        import torch
        from common import ADAPTED_MODULES, random_model
        from peft import LoraConfig, get_peft_model

        self.options = options
        base = random_model() if options.random_weights else self.opened(options.model)
        config = LoraConfig(r=options.rank, lora_alpha=options.rank, target_modules=ADAPTED_MODULES)
        # PEFT draws A at random: the same draw for both forms, whatever was drawn before.
        torch.manual_seed(options.seed)
        self.policy = get_peft_model(base, config)
        self.policy.train()
        self.optimizer = torch.optim.AdamW([p for p in self.policy.parameters() if p.requires_grad], lr=options.lr)

    @staticmethod
    def opened(model):
        from common import open_model

        return open_model(model)

    def tokens(self):
        """Prompts [pairs, prompt] and responses [pairs, 2, response]: the same sequence of draws in both forms."""
        import torch

        o, vocabulary = self.options, self.policy.config.vocab_size
        prompts = torch.randint(vocabulary, (o.pairs, o.prompt))
        return prompts, torch.randint(vocabulary, (o.pairs, 2, o.response))

    def update(self, policy, reference):
        """One step on L = −mean log σ(β·(Δ₀ − Δ₁)), Δⱼ = log π(yⱼ|x) − log π_ref(yⱼ|x), summed over tokens."""
        import torch

        ratio = policy - reference  # [pairs, 2]
        loss = -torch.nn.functional.logsigmoid(self.options.beta * (ratio[:, 0] - ratio[:, 1])).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


class UsualStep(Step):
    def batch(self):
        import torch

        prompts, responses = self.tokens()
        both = prompts[:, None].expand(-1, 2, -1)
        return torch.cat([both, responses], dim=-1).flatten(0, 1)  # [2·pairs, prompt + response]

    def take(self, ids):
        import torch

        with torch.no_grad(), self.policy.disable_adapter():
            reference = self.log_probs(ids)
        return self.update(self.log_probs(ids), reference)

    def log_probs(self, ids):
        logits = self.policy(ids, use_cache=False).logits[:, :-1].float()  # [2·pairs, time − 1, vocabulary]
        of_tokens = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        return of_tokens[:, self.options.prompt - 1 :].sum(-1).reshape(-1, 2)


class SavingStep(Step):
    def __init__(self, options):
        import torch

        super().__init__(options)
        prompt, response = options.prompt, options.response
        # One row a pair: prompt, response 0, response 1. Each response continues the positions of the prompt.
        continued = torch.arange(prompt, prompt + response)
        self.positions = torch.cat([torch.arange(prompt), continued, continued])[None].expand(options.pairs, -1)
        part = torch.tensor([0] * prompt + [1] * response + [2] * response)
        place = torch.arange(len(part))
        seen = (place[:, None] >= place) & ((part == 0) | (part[:, None] == part))
        self.seen = seen[None, None].expand(options.pairs, 1, -1, -1)
        # The position before each response token predicts it; for the first one that is the prompt's last.
        first = prompt + torch.arange(response)
        self.predicting = torch.cat([first - 1, first + response - 1])
        self.predicting[response] = prompt - 1

    def batch(self):
        import torch

        prompts, responses = self.tokens()
        ids = torch.cat([prompts, responses.flatten(1)], dim=-1)  # [pairs, prompt + 2·response]
        with torch.no_grad(), self.policy.disable_adapter():
            return ids, self.log_probs(ids)

    def take(self, batch):
        ids, reference = batch
        return self.update(self.log_probs(ids), reference)

    def log_probs(self, ids):
        import torch

        model = self.policy.get_base_model()
        hidden = model.model(
            ids, attention_mask=self.seen, position_ids=self.positions, use_cache=False
        ).last_hidden_state[:, self.predicting]
        targets = ids[:, self.options.prompt :, None]
        of_tokens = [
            model.lm_head(row).float().log_softmax(-1).gather(-1, target)[..., 0]
            for row, target in zip(hidden, targets)
        ]
        return torch.stack(of_tokens).reshape(self.options.pairs, 2, -1).sum(-1)


if __name__ == "__main__":
    main()
