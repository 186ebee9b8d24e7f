"""The newcomer's path: from 40 records of one's own to a front and an answer, each command printed by the one before.

    python3 check.py PANACEA

PANACEA is the binary. The first command stands in README; each further one is what the one before printed behind `next`, and is
run by the shell as it stands. The front that comes out is held against what a front must be. Called from the root of the
repository; `cargo xtask ci` does it, with the standard library of Python alone.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# What a newcomer comes through, each by what follows the name of the program.
PATH = ["config init", "config check", "train", "eval-front", "generate"]
RECORDS = 40
TOPICS = ["birds", "bread", "rain", "bees", "stars", "tea", "maps", "boats"]
DEEDS = ["help us", "work", "begin", "change", "end"]


def texts():
    """Prompt, chosen and rejected: the chosen one is mostly the longer one."""
    for i in range(RECORDS):
        topic, deed = TOPICS[i % len(TOPICS)], DEEDS[i // len(TOPICS)]
        answers = [f"They {deed} every day, as most people who look at {topic} know.", f"They {deed}."]
        chosen, rejected = answers if i % 4 else answers[::-1]
        yield f"how do {topic} {deed}?", chosen, rejected


def plain(prompt, chosen, rejected):
    """As TRL has texts, with scores in two columns, which do not always want the chosen answer."""
    scores = [len(answer) % 7 for answer in (chosen, rejected)]
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "tone_chosen": scores[0], "tone_rejected": scores[1]}


def conversational(prompt, chosen, rejected):
    """As TRL has conversations; there is nothing but who is preferred."""
    asked = {"role": "user", "content": prompt}
    turns = [[asked, {"role": "assistant", "content": answer}] for answer in (chosen, rejected)]
    return {"chosen": turns[0], "rejected": turns[1]}


def first_command():
    """The command of README that a newcomer begins with."""
    lines = [line for line in Path("README.md").read_text().splitlines() if " config init " in line and "--train" in line]
    assert len(lines) == 1, f"README has {len(lines)} commands to begin with, expected one: {lines}"
    return lines[0]


def run(command, called_as, binary, folder):
    """What a command of the shell prints, on standard output and on standard error."""
    assert command.startswith(called_as + " "), f"{command!r} does not call {called_as!r}"
    typed = command.replace(called_as, shlex.quote(str(binary)), 1)
    environment = {**os.environ, "PANACEA_CALLED_AS": called_as}
    done = subprocess.run(typed, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout, done.stderr


def walk(command, called_as, binary, folder):
    """Goes the whole path; what its commands told, by what each is for."""
    told = {}
    for place, step in enumerate(PATH):
        assert command.startswith(f"{called_as} {step} "), f"expected {step!r} next, found {command!r}"
        began = time.monotonic()
        told[step] = run(command, called_as, binary, folder)
        print(f"{time.monotonic() - began:5.1f} s  {command}")
        if place + 1 < len(PATH):
            printed = re.findall(r"^next +(.+)$", told[step][0], re.MULTILINE)
            assert len(printed) == 1, f"{command}\n{told[step][0]}expected one line that begins with next"
            command = printed[0]
    return told


def dominates(one, other):
    """Whether a point is nowhere lower than another one, and somewhere higher."""
    return all(a >= b for a, b in zip(one, other)) and one != other


def check_front(path, objectives, measured):
    """Whether a front is what a front must be."""
    front = json.loads(path.read_text())
    assert front["objectives"] == objectives, front["objectives"]
    [method] = front["methods"]
    points = method["points"]
    grid = [[1 - i / 10, i / 10] for i in range(11)]
    lambdas = [point["lambda"] for point in points]
    assert len(lambdas) == len(grid), lambdas
    for found, expected in zip(lambdas, grid):
        assert all(abs(a - b) < 1e-9 for a, b in zip(found, expected)), (found, expected)
    values = [point["values"] for point in points]
    for point in points:
        expected = not any(dominates(other, point["values"]) for other in values)
        assert point["non_dominated"] == expected, (point, values)
    kept = sum(point["non_dominated"] for point in points)
    assert method["indicators"]["non_dominated"] == kept >= 1, method["indicators"]
    # What is better than the reference everywhere, of those that nothing beats, in steps from the left.
    reference = front["reference"]
    best = sorted((v for v, point in zip(values, points) if point["non_dominated"]), reverse=True)
    volume, above = 0.0, reference[1]
    for x, y in best:
        if y > above:
            volume += max(x - reference[0], 0) * (y - above)
            above = y
    found = method["indicators"]["hypervolume"]
    assert abs(found - volume) <= 1e-9 + 1e-6 * volume, (found, volume)
    # Each end wants more of its own objective than the other end does.
    for objective, (own, other) in enumerate([(0, -1), (-1, 0)]):
        assert values[own][objective] > values[other][objective], (objective, values)
    [run] = front["provenance"]["runs"]
    assert (run["records"], run["origin"]) == (measured, "training"), run


def check(rows, names, objectives, called_as, binary):
    """One newcomer's file, all the way."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # As in a clone, which is not written to.
        shutil.copytree("datasets/quickstart/base", folder / "datasets/quickstart/base")
        command = first_command().replace("cargo xtask", called_as, 1)
        for usual, own in names.items():
            assert usual in command, (usual, command)
            command = command.replace(usual, shlex.quote(own))
        records = names.get("my.jsonl", "my.jsonl")
        (folder / records).write_text("".join(json.dumps(row) + "\n" for row in rows))
        told = walk(command, called_as, binary, folder)
        assert f" on {RECORDS} records" in told["config check"][0], told["config check"]
        said = told["eval-front"]
        # How many fit into the time is told before they are measured.
        measured, of = map(int, re.search(r"estimate +(\d+) of (\d+) records", said[1]).groups())
        assert of == RECORDS and 2 <= measured <= of, said[1]
        [path] = [line for line in said[0].splitlines() if line.endswith("front.json")]
        check_front(folder / path, objectives, measured)
        assert told["generate"][0].strip(), told["generate"]


def main():
    """Two newcomers: who has scores, in a clone; and who has conversations, names with blanks, and an installed program."""
    binary = Path(sys.argv[1]).resolve()
    check([plain(*row) for row in texts()], {}, ["preferred", "tone"], "cargo xtask", binary)
    names = {"my.jsonl": "my records.jsonl", "my.toml": "my own.toml"}
    check([conversational(*row) for row in texts()], names, ["preferred", "brevity"], "panacea", binary)
    print("two newcomers came from their records to a front and an answer")


main()
