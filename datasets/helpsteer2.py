#!/usr/bin/env python3
"""HelpSteer2's rows (one response each) -> scored pairs, as JSON Lines on standard output.

    python3 datasets/helpsteer2.py train.jsonl.gz > train.jsonl

The two rows of a prompt follow each other. An attribute is a number, or a list with one number an annotator, whose
mean is taken. Adds conciseness = 4 - verbosity. Needs nothing beyond Python.
"""

import gzip
import json
import sys
from statistics import fmean

ATTRIBUTES = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]
HIGHEST_SCORE = 4


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    path = sys.argv[1]
    pairs = single = 0
    waiting = None
    for row in rows(path):
        if waiting is not None and waiting["prompt"] == row["prompt"]:
            print(json.dumps(pair(waiting, row), ensure_ascii=False))
            pairs += 1
            waiting = None
        else:
            single += waiting is not None
            waiting = row
    single += waiting is not None
    print(f"{pairs} pairs; {single} responses without a partner left out", file=sys.stderr)


def rows(path):
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                row["prompt"], row["response"]
            except (ValueError, KeyError, TypeError) as error:
                sys.exit(f"error: {path}:{number}: expected an object with prompt and response: {error!r}")
            yield row


def pair(first, second):
    scores = {
        attribute: [score(first[attribute]), score(second[attribute])]
        for attribute in ATTRIBUTES
        if attribute in first and attribute in second
    }
    if "verbosity" in scores:
        scores["conciseness"] = [round(HIGHEST_SCORE - value, 3) for value in scores["verbosity"]]
    return {"prompt": first["prompt"], "responses": [first["response"], second["response"]], "scores": scores}


def score(value):
    return round(fmean(value), 3) if isinstance(value, list) else value


if __name__ == "__main__":
    main()
