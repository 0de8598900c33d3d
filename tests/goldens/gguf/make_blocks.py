"""Writes blocks.safetensors: random GGUF blocks and the values that the reference gives for them.

    python make_blocks.py        needs numpy, safetensors and gguf (made with gguf 0.19.0)

TYPE.blocks is U8 [blocks, bytes per block], TYPE.values F32 [blocks, values per block].
"""
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from safetensors.numpy import save_file

# Byte offsets of the fp16 scales in a block; random bits there could be infinite.
SCALES = {"F32": None, "F16": None, "BF16": None, "Q4_0": [0], "Q4_1": [0, 2], "Q8_0": [0],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
          "Q5_0": [0], "Q5_1": [0, 2]}

rng = np.random.default_rng(45)
tensors = {}
for name, scales in SCALES.items():
    kind = GGMLQuantizationType[name]
    _, size = GGML_QUANT_SIZES[kind]
    if scales is None:
        values = rng.standard_normal((4, 16)).astype(np.float32)
        blocks = quants.quantize(values, kind).view(np.uint8)
    else:
        blocks = rng.integers(0, 256, (3, size), dtype=np.uint8)
        for offset in scales:
            blocks[:, offset:offset + 2] = rng.standard_normal((3, 1)).astype(np.float16).view(np.uint8)
        blocks[0, scales[0]:scales[0] + 2] = np.array([3e-7], np.float16).view(np.uint8)  # a subnormal scale
    tensors[f"{name}.blocks"] = blocks
    tensors[f"{name}.values"] = quants.dequantize(blocks, kind).astype(np.float32)
save_file(tensors, Path(__file__).parent / "blocks.safetensors")
