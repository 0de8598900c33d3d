"""Goldens of the quantised formats: random matrices through every scheme of the numpy reference.

    python make_quant.py PATH/TO/reference_quant.py        writes quant.safetensors beside this script

The reference (spec quantization.md) is a file of plain numpy functions; its matrices are W [K, N]. Here rows are outputs:
[N, K]. The file's metadata names the numpy version.
"""
import importlib.util
import json
import struct
import sys
from pathlib import Path

import numpy as np

TYPES = {"float32": "F32", "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "int32": "I32"}


def load(path):
    spec = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save(path, tensors, metadata):
    table, blobs, offset = {"__metadata__": metadata}, [], 0
    for name, value in tensors.items():
        blob = np.ascontiguousarray(value).tobytes()
        table[name] = {"dtype": TYPES[value.dtype.name], "shape": list(value.shape),
                       "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    head = json.dumps(table).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(blobs))


def f32(x):
    return np.asarray(x, np.float32)


def integers(ref, w, out):
    for bits in (8, 4):
        for group in (-1, 64, 128):
            q, s = ref.wint(w.T, bits, group)
            name = f"wint{bits}.{0 if group < 0 else group}"
            out[f"{name}.codes"] = q.T
            out[f"{name}.scales"] = f32(np.atleast_2d(s).T)
        out[f"sm80.{bits}"] = ref.paddle_sm80_layout(ref.wint(w.T, bits)[0], bits).astype(np.uint8)


def fp8(ref, rng, w, ragged, out):
    x = f32(rng.standard_normal(3000) * 2.0 ** rng.integers(-20, 18, 3000))
    out["fp8.x"] = x
    out["fp8.e4m3"], out["fp8.e5m2"] = ref.fp8_encode(x), ref.fp8_encode(x, "e5m2")
    codes, scale, _ = ref.fp8_block_weight(ragged)
    out["ragged"], out["block.codes"], out["block.scales"] = ragged, codes, scale
    out["activation.codes"], out["activation.scales"] = ref.fp8_act_1x128(w)
    for block in (32, 128):
        out[f"hadamard.{block}"] = ref.hadamard_block(w, block)
    rotated = ref.hadamard_block(w, 32)
    scale = np.float32(np.abs(rotated).max() / 448)
    out["rotated.codes"], out["rotated.scale"] = ref.fp8_encode(rotated / scale), f32([scale])


def w4a8(ref, w, x, out):
    out["x"] = x
    for block in (1, 128):
        amax = np.float32(np.abs(ref.hadamard_block(x, block) if block > 1 else x).max())
        out[f"w4a8.{block}.amax"] = f32([amax])
        out[f"w4a8.{block}.y"] = f32(ref.w4a8_gemm(x, w.T, amax, block))


def kv(ref, rng, out):
    x = f32(rng.standard_normal((6, 64)) * np.exp(rng.standard_normal(64)))
    out["kv.x"], out["kv.amax"] = x, np.abs(x).max(0) * np.float32(.9)
    out["kv.int8"], out["kv.out"] = ref.c8_static(x, out["kv.amax"])
    out["kv.dynamic"], scales = ref.c8_fp8_dynamic(x)
    out["kv.dynamic.scales"] = f32(scales[:, 0])


def ccq(ref, rng, w, out):
    n, k = w.shape
    words, super_scale = rng.integers(0, 65536, (k // 64 * 10, n)).astype(np.uint16), ref.bf16(np.exp(f32(rng.standard_normal(n))))
    out["ccq25.words"], out["ccq25.super"] = words, super_scale
    out["ccq25.values"] = f32(ref.ccq25_decode(words, super_scale).T)
    codes, local = (rng.integers(0, 256, (k // step, n)).astype(np.uint8) for step in (4, 128))
    seeds = f32([ref.CCQ2_SEEDS[i % 3] for i in range(n)])
    out["ccq2.codes"], out["ccq2.local"], out["ccq2.super"] = codes, local, super_scale
    out["ccq2.code_scale"], out["ccq2.code_zp"] = seeds[:, 0], seeds[:, 1]
    out["ccq2.values"] = f32(ref.ccq2_decode(codes, local, seeds[:, 0], seeds[:, 1], super_scale).T)
    out["ccq.snr"] = f32([ref.snr(w.T, ref.ccq25_decode(*ref.ccq25_encode(w.T))),
                          ref.snr(w.T, ref.ccq2_decode(*ref.ccq2_encode(w.T)))])


def packings(ref, rng, out):
    q = rng.integers(0, 16, (64, 16))
    out["pack.codes"] = q.astype(np.uint8)
    out["pack.awq"] = ref.awq_pack(q).astype(np.uint32)
    out["pack.words"] = ref.pack32(q, 1).astype(np.uint32)
    out["pack.nibbles"] = ref.pack4(q).astype(np.uint8)


def main():
    ref, rng, out = load(sys.argv[1]), np.random.default_rng(11), {}
    w = f32(rng.standard_normal((16, 256)) * .02)
    w[3] = 0
    w[4] *= np.exp(f32(rng.standard_normal(256)))
    integers(ref, w, out)
    dense = f32(rng.standard_normal((16, 256)) * .02)
    ragged = f32(rng.standard_normal((130, 40)) * .1)
    ragged[128:] = 0
    fp8(ref, rng, dense, ragged, out)
    w4a8(ref, dense, f32(rng.standard_normal((4, 256))), out)
    kv(ref, rng, out)
    ccq(ref, rng, dense, out)
    packings(ref, rng, out)
    out["w"], out["dense"] = w, dense
    save(Path(__file__).with_name("quant.safetensors"), out, {"numpy": np.__version__})
    print(len(out), "tensors,", sum(t.nbytes for t in out.values()), "bytes, numpy", np.__version__)


if __name__ == "__main__":
    main()
