"""Rounds the Q4_1 weights of a GGUF file once more, to fewer levels a block, and leaves the rest of the file as it is.

What the 16 levels of Q4_1 cost cannot be seen without more exact weights. How fast a model gets worse with still
fewer levels can, and the first step down the same road can be read from it.

    python coarser_gguf.py IN.gguf OUT.gguf LEVELS

Prints the relative error of the new weights against those of IN, and about what relative error the levels of IN
themselves have: that of a number that lies anywhere between two levels.
"""

import argparse
import shutil

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader

BLOCK = 20  # bytes: a scale and a least value of 16 bits each, then 32 levels of 4 bits


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("levels", type=int, choices=range(2, 17), metavar="LEVELS")
    arguments = parser.parse_args()

    shutil.copyfile(arguments.input, arguments.output)
    reader = GGUFReader(arguments.output, "r+")
    rounded = spread = within_levels = 0.0
    for tensor in reader.tensors:
        if tensor.tensor_type != GGMLQuantizationType.Q4_1:
            continue
        blocks = tensor.data.reshape(-1, BLOCK)
        old, scale = weights(blocks)
        blocks[:] = coarser(blocks, arguments.levels)
        new, _ = weights(blocks)
        rounded += squares(new - old)
        spread += squares(old - old.mean())
        within_levels += 32 * squares(scale) / 12
    if spread == 0.0:
        parser.error(f"{arguments.input} has no Q4_1 tensors")
    reader.data.flush()
    print(f"relative error of {arguments.levels} levels: {(rounded / spread) ** 0.5:.4f}")
    print(f"of the 16 levels themselves, about: {(within_levels / spread) ** 0.5:.4f}")


def parts(blocks):
    """Scales and least values [blocks, 1], levels [blocks, 32]."""
    scale = blocks[:, 0:2].copy().view(np.float16).astype(np.float32)
    least = blocks[:, 2:4].copy().view(np.float16).astype(np.float32)
    levels = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1).astype(np.float32)
    return scale, least, levels


def weights(blocks):
    scale, least, levels = parts(blocks)
    return scale * levels + least, scale


def coarser(blocks, count):
    """The same blocks with `count` levels, evenly from the least to the largest that a block uses."""
    scale, least, levels = parts(blocks)
    low, high = levels.min(1, keepdims=True), levels.max(1, keepdims=True)
    step = np.maximum(high - low, 1) / (count - 1)
    fewer = np.rint((levels - low) / step).astype(np.uint8)
    new_scale = (scale * step).astype(np.float16).view(np.uint8)
    new_least = (least + scale * low).astype(np.float16).view(np.uint8)
    return np.concatenate([new_scale, new_least, fewer[:, :16] | fewer[:, 16:] << 4], axis=1)


def squares(values):
    return float(np.square(values.astype(np.float64)).sum())


if __name__ == "__main__":
    main()
