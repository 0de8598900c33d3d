"""Shapes of the published text models and what a step of them costs: the formulas behind bench/gpu/predictions.json.

    python3 tools/gpu_models.py > bench/gpu/predictions.json

A decode step of B requests reads the weights that every step reads, those of the distinct experts, and the KV cache:
bytes = shared + expert * D + B * context * kv, with D = E (1 - (1 - k/E)^B) experts if routing were independent.
floor = bytes / the card's read rate. What is predicted for the kernels of tier 0 is slower: they reach a share of that rate,
read dense weights once for every 8 rows, and launch each kernel by itself; prompts run at the rate of f32 multiply-adds.
"""
import json
import sys

COMMON = {"vocab_size": 103424, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000,
          "hidden_act": "silu", "use_bias": False, "torch_dtype": "bfloat16", "initializer_range": 0.02}
MOE = {"architectures": ["Ernie4_5_MoeForCausalLM"], "model_type": "ernie4_5_moe", "moe_num_experts": 64}
MODELS = {
    "0.3B": {"architectures": ["Ernie4_5_ForCausalLM"], "model_type": "ernie4_5", "num_hidden_layers": 18, "hidden_size": 1024,
             "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 3072,
             "tie_word_embeddings": True, **COMMON},
    "21B-A3B": {**MOE, "num_hidden_layers": 28, "hidden_size": 2560, "num_attention_heads": 20, "num_key_value_heads": 4,
                "head_dim": 128, "intermediate_size": 12288, "moe_k": 6, "moe_intermediate_size": 1536,
                "moe_num_shared_experts": 2, "moe_layer_start_index": 1, "moe_layer_end_index": 27,
                "tie_word_embeddings": True, **COMMON},
    "300B-A47B": {**MOE, "num_hidden_layers": 54, "hidden_size": 8192, "num_attention_heads": 64, "num_key_value_heads": 8,
                  "head_dim": 128, "intermediate_size": 28672, "moe_k": 8, "moe_intermediate_size": 3584,
                  "moe_num_shared_experts": 0, "moe_layer_start_index": 3, "moe_layer_end_index": 53,
                  "tie_word_embeddings": False, **COMMON},
}
# Read rate and bf16 matrix rate that programs reach, by a part of the card's name.
CARDS = {"H200": {"tb_per_s": 4.3, "bf16_tflops": 790, "memory_gb": 141},
         "H100": {"tb_per_s": 3.0, "bf16_tflops": 750, "memory_gb": 80}}
# Bits of a weight with its scales: of experts, and of the other linears; the head stays bf16.
PRECISIONS = {"bfloat16": (16, 16), "fp8_block": (8, 8), "wint8": (8, 8), "wint4": (4, 8)}
TIER0 = {"share_of_read_rate": 0.6, "rows_per_pass": 8, "launch_us": 4.0, "kernels_per_layer": 11, "f32_tflops": 20.0}


def sizes(c, precision="bfloat16"):
    """Weights that each step reads (dense linears, head), those of one expert over all layers, and KV bytes of a token."""
    expert_bits, other_bits = PRECISIONS[precision]
    if "moe_k" not in c:
        expert_bits, other_bits = expert_bits, expert_bits
    h, d = c["hidden_size"], c["head_dim"]
    q, kv = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
    layers = c["num_hidden_layers"]
    moe_layers = layers - c["moe_layer_start_index"] if "moe_k" in c else 0
    dense = layers * (h * (q + 2 * kv) + q * h) + (layers - moe_layers) * 3 * h * c["intermediate_size"]
    expert = moe_layers * 3 * h * c.get("moe_intermediate_size", 0)
    dense += c.get("moe_num_shared_experts", 0) * expert
    head = h * c["vocab_size"]
    router = moe_layers * h * c.get("moe_num_experts", 0)
    # The linears of the parameters that a token uses.
    active = dense + head + router + c.get("moe_k", 0) * expert
    return {"dense_bytes": dense * other_bits / 8, "head_bytes": head * 2, "router_bytes": router * 4,
            "expert_bytes": expert * expert_bits / 8, "kv_bytes": 2 * layers * kv * 2, "active": active,
            "matmul_tokens": active - head}


def distinct_experts(c, batch):
    experts = c.get("moe_num_experts", 0)
    return experts * (1 - (1 - c["moe_k"] / experts) ** batch) if experts else 0


def decode(c, precision, batch, context, card):
    s = sizes(c, precision)
    d = distinct_experts(c, batch)
    kv = batch * context * s["kv_bytes"]
    shared = s["dense_bytes"] + s["head_bytes"] + s["router_bytes"]
    total = shared + d * s["expert_bytes"] + kv
    rate = card["tb_per_s"] * 1e12
    passes = -(-batch // TIER0["rows_per_pass"])
    slow = (shared * passes + d * s["expert_bytes"] + kv) / (rate * TIER0["share_of_read_rate"])
    launches = c["num_hidden_layers"] * TIER0["kernels_per_layer"] * TIER0["launch_us"] * 1e-6
    return {"bytes": round(total), "distinct_experts": round(d, 1), "floor_ms": round(total / rate * 1e3, 3),
            "predicted_ms": round(max(slow, launches) * 1e3, 3)}


def prefill(c, tokens, card):
    s = sizes(c)
    pairs = tokens * (tokens + 1) / 2
    attention = 4 * c["num_hidden_layers"] * c["num_attention_heads"] * c["head_dim"] * pairs
    flop = 2 * (tokens * s["matmul_tokens"] + s["head_bytes"] / 2) + attention
    return {"flop": round(flop), "floor_ms": round(flop / (card["bf16_tflops"] * 1e12) * 1e3, 3),
            "predicted_ms": round(flop / (TIER0["f32_tflops"] * 1e12) * 1e3, 3)}


def fits(c, precision, card):
    s = sizes(c, precision)
    weights = s["dense_bytes"] + 2 * s["head_bytes"] + c.get("moe_num_experts", 0) * s["expert_bytes"]
    return weights < 0.9 * card["memory_gb"] * 1e9


def predictions():
    result = {"made_by": "tools/gpu_models.py", "tier0": TIER0, "cards": CARDS, "decode": [], "prefill": []}
    for card_name, card in CARDS.items():
        for model, c in MODELS.items():
            for precision in PRECISIONS:
                if not fits(c, precision, card):
                    continue
                for batch in 1, 8, 16, 64, 100:
                    key = {"card": card_name, "model": model, "precision": precision, "batch": batch, "context": 1024}
                    result["decode"].append({**key, **decode(c, precision, batch, 1024, card)})
            if not fits(c, "bfloat16", card):
                continue
            for tokens in 512, 1024, 4096, 8192:
                result["prefill"].append({"card": card_name, "model": model, "precision": "bfloat16", "tokens": tokens,
                                          **prefill(c, tokens, card)})
    return result


if __name__ == "__main__":
    text = json.dumps(predictions(), indent=1)
    sys.stdout.write(text.replace("\n   ", " ").replace("\n  }", " }") + "\n")
