#!/usr/bin/env python3
"""Seconds of an exact hypervolume in moocore (C).

    python moocore_hypervolume.py FOLDER

FOLDER holds `sphere-M-N.json`, a list of N points each, as the program `hypervolume` of this package writes them.
Objectives are maximised against the origin. Prints one JSON line a file.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import moocore
import numpy


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    files = sorted(Path(sys.argv[1]).glob("sphere-*.json"))
    if not files:
        sys.exit(f"error: {sys.argv[1]} holds no sphere-M-N.json")
    for path in files:
        points = numpy.array(json.loads(path.read_text(encoding="utf-8")))
        n, m = points.shape
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            value = moocore.hypervolume(points, ref=numpy.zeros(m), maximise=True)
            seconds.append(time.perf_counter() - start)
        measure = {"measure": f"hypervolume_m{m}_n{n}", "median": statistics.median(seconds), "value": float(value)}
        print(json.dumps(measure), flush=True)


if __name__ == "__main__":
    main()
