#!/usr/bin/env python3
"""Losses and gradients of KTO (Ethayarajh et al. 2024), the reference values of datasets/golden/kto.json.

    python trl_kto.py OUT.json

The formula is written anew, in PyTorch with float64. Where TRL is installed (`pip install trl==1.16.0`), every case whose
labels are complete is also computed by TRL's own KTOTrainer, whose loss and gradients must agree within 1e-9. The file is
the same with and without it.

A batch has n rows, each a prompt with a response whose log-probability, summed over the response's tokens, is `policy`
under the trained model and `reference` under the reference model. `policy_kl` and `reference_kl` are those of the same
prompts with the responses of other rows. TRL rotates the responses by one within a batch: prompt i gets the response of
row i - 1, and the first prompt that of the last row. (The paper takes row i + 1.) What counts here is their mean only:

    z0 = max(0, mean over all rows of (policy_kl - reference_kl)), a constant: no gradient flows through it

With r = policy - reference, a row's loss on an objective is

    desirable_weight   * (1 - sigmoid(beta * (r - z0)))    where its label is true
    undesirable_weight * (1 - sigmoid(beta * (z0 - r)))    where its label is false

and the loss of an objective is the mean of its rows' losses. Weights do not enter the number that is divided by. Both
weights are 1 unless told otherwise, and beta is 0.1.

TRL has one objective and no row without a label. Here, labels are given for each of two objectives, and null where a row
has none: an objective's loss is the mean over the rows that have a label on it, while z0 is of the whole batch for all
objectives. An objective on which no row has a label has the loss null. 1 - sigmoid(x) is computed as sigmoid(-x), which
keeps its digits where it is close to 0.

OUT.json is a list of cases: "name", "beta", "desirable_weight", "undesirable_weight", the four lists of log-probabilities
and "labels" (a list of rows for each objective) as inputs; "z0", "losses" (one for each objective), "terms" (each row's
loss, null without a label) and "gradients" (of each objective's loss in `policy`, row by row) as outputs. All inputs are
exact in float32.
"""

import json
import sys
from pathlib import Path

import torch

# The larger one of the policy's log-probability and the reference's, of the responses and of the mismatched ones.
LARGER = [-41.5, -12.25, -77.0, -30.125, -5.5, -58.75]
LARGER_KL = [-63.25, -48.0, -22.5, -90.75, -71.0, -35.5]
# What the policy's is above the reference's.
RATIOS = [1.5, -0.75, 4.25, 0.0, -6.5, 0.375]
RATIOS_KL_ABOVE = [2.5, -1.0, 0.75, 3.0, -0.5, 1.25]
RATIOS_KL_BELOW = [-2.5, 1.0, -0.75, -3.0, 0.5, -1.25]
EXTREME = [500.0, -500.0, 500.0, -500.0, 0.25, -0.25]
MIXED = [[True, False, True, False, False, True], [False, False, True, True, False, True]]

# name: ratios, ratios of mismatched pairs, labels
BATCHES = {
    "z0_positive": (RATIOS, RATIOS_KL_ABOVE, MIXED),
    "z0_clamped": (RATIOS, RATIOS_KL_BELOW, MIXED),
    "all_desirable": (RATIOS, RATIOS_KL_ABOVE, [[True] * 6, MIXED[1]]),
    "all_undesirable": (RATIOS, RATIOS_KL_ABOVE, [[False] * 6, MIXED[1]]),
    "labels_missing": (
        RATIOS,
        RATIOS_KL_ABOVE,
        [[True, None, False, None, True, None], [None, None, None, False, None, None]],
    ),
    "objective_without_labels": (RATIOS, RATIOS_KL_ABOVE, [MIXED[0], [None] * 6]),
    "extreme_ratios": (EXTREME, RATIOS_KL_ABOVE, [[True, True, False, False, True, False], MIXED[1]]),
    "extreme_z0": (RATIOS, [500.0, 400.0, 600.0, 500.0, 450.0, 550.0], MIXED),
}
# beta, desirable_weight, undesirable_weight
SETTINGS = [(0.1, 1.0, 1.0), (0.5, 1.0, 1.0), (1.0, 1.0, 1.0), (0.1, 1.33, 1.0), (0.1, 0.5, 2.0)]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    cases = [case(name, *setting) for name in BATCHES for setting in SETTINGS]
    # First, so that no file is written that TRL does not agree with.
    compare(cases)
    Path(sys.argv[1]).write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(f"{len(cases)} cases")


def case(name, beta, desirable_weight, undesirable_weight):
    ratios, ratios_kl, labels = BATCHES[name]
    policy, reference = log_probs(LARGER, ratios)
    policy_kl, reference_kl = log_probs(LARGER_KL, ratios_kl)
    inputs = {
        "name": name,
        "beta": beta,
        "desirable_weight": desirable_weight,
        "undesirable_weight": undesirable_weight,
        "policy": policy,
        "reference": reference,
        "policy_kl": policy_kl,
        "reference_kl": reference_kl,
        "labels": labels,
    }
    policy, reference, policy_kl, reference_kl = (
        torch.tensor(inputs[key]) for key in ("policy", "reference", "policy_kl", "reference_kl")
    )
    policy.requires_grad_()
    z0 = (policy_kl - reference_kl).mean().clamp(min=0)
    above = policy - reference - z0
    outputs = {"z0": z0.item(), "losses": [], "terms": [], "gradients": []}
    for row_labels in labels:
        terms = [
            None
            if label is None
            else desirable_weight * torch.sigmoid(-beta * above[row])
            if label
            else undesirable_weight * torch.sigmoid(beta * above[row])
            for row, label in enumerate(row_labels)
        ]
        labelled = [term for term in terms if term is not None]
        outputs["terms"].append([None if term is None else term.item() for term in terms])
        if labelled:
            loss = torch.stack(labelled).mean()
            (gradient,) = torch.autograd.grad(loss, policy, retain_graph=True)
            outputs["losses"].append(loss.item())
            outputs["gradients"].append(gradient.tolist())
        else:
            outputs["losses"].append(None)
            outputs["gradients"].append([0.0] * len(row_labels))
    return inputs | outputs


def log_probs(larger, ratios):
    policy = [log_prob + min(ratio, 0.0) for log_prob, ratio in zip(larger, ratios)]
    reference = [log_prob - max(ratio, 0.0) for log_prob, ratio in zip(larger, ratios)]
    return policy, reference


def compare(cases):
    """Holds the cases against TRL, if there is one."""
    try:
        import trl
    except ImportError:
        print("TRL is not installed: nothing is held against it")
        return
    compared, largest = 0, 0.0
    for case in cases:
        for labels, loss, gradient in zip(case["labels"], case["losses"], case["gradients"]):
            if None in labels:
                continue
            their_loss, their_gradient = by_trl(case, labels)
            differences = [abs(a - b) for a, b in zip([loss, *gradient], [their_loss, *their_gradient])]
            # Each by itself: the largest of all may leave out what is not a number.
            agree = all(difference <= 1e-9 for difference in differences)
            assert agree, (case["name"], labels, loss, their_loss, gradient, their_gradient)
            largest = max(largest, *differences)
            compared += 1
    print(f"TRL {trl.__version__}: {compared} losses with their gradients agree, the largest difference is {largest:.1e}")


def by_trl(case, labels):
    """The loss of KTOTrainer and its gradient, with models that answer the given log-probabilities."""
    from collections import defaultdict
    from types import SimpleNamespace

    from trl import KTOTrainer

    policy = torch.tensor(case["policy"], requires_grad=True)
    rows = len(labels)
    ones, mask = torch.ones(rows, 2, dtype=torch.long), torch.tensor([[0, 1]] * rows)

    def model(input_ids, **_):
        # One token of prompt and one of response: mismatched pairs are told by their ids.
        log_probs = torch.tensor(case["policy_kl"]) if int(input_ids[0, 0]) == 2 else policy
        nothing = torch.zeros(rows, 1)
        return SimpleNamespace(log_probs=log_probs[:, None], entropy=nothing, mean_logits=nothing)

    # Just what the loss reads of a trainer.
    trainer = object.__new__(KTOTrainer)
    trainer.__dict__.update(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(device=torch.device("cpu"), gather_for_metrics=lambda value: value),
        loss_type="kto",
        calculate_KL=True,
        precompute_ref_logps=True,
        aux_loss_enabled=False,
        beta=case["beta"],
        desirable_weight=case["desirable_weight"],
        undesirable_weight=case["undesirable_weight"],
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    batch = {
        "input_ids": ones,
        "attention_mask": ones,
        "completion_mask": mask,
        "KL_input_ids": 2 * ones,
        "KL_attention_mask": ones,
        "KL_completion_mask": mask,
        "label": torch.tensor(labels),
        "ref_logps": torch.tensor(case["reference"]),
        "ref_KL_logps": torch.tensor(case["reference_kl"]),
    }
    loss = trainer._compute_loss(model, batch, return_outputs=False)
    loss.backward()
    assert abs(trainer._metrics["train"]["kl"][0] - case["z0"]) <= 1e-9
    return loss.item(), policy.grad.tolist()


if __name__ == "__main__":
    main()
