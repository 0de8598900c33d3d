// The sizes of the published models (spec gpu.md 1, text.md 1.1, vision.md 1.1), from their
// configurations.
#include "model/memory_plan.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "support/temporary_folder.h"

namespace erne {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr const char* kCommon =
    R"("vocab_size": 103424, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000, )"
    R"("hidden_act": "silu", "use_bias": false, "torch_dtype": "bfloat16")";
constexpr const char* k300m =
    R"({"architectures": ["Ernie4_5_ForCausalLM"], "model_type": "ernie4_5", "num_hidden_layers": 18, "hidden_size": 1024,
        "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 3072,
        "tie_word_embeddings": true, )";
constexpr const char* k21b =
    R"({"architectures": ["Ernie4_5_MoeForCausalLM"], "model_type": "ernie4_5_moe", "num_hidden_layers": 28,
        "hidden_size": 2560, "num_attention_heads": 20, "num_key_value_heads": 4, "intermediate_size": 12288,
        "moe_num_experts": 64, "moe_k": 6, "moe_intermediate_size": 1536, "moe_num_shared_experts": 2,
        "moe_layer_start_index": 1, "moe_layer_end_index": 27, "tie_word_embeddings": true, )";
constexpr const char* k300b =
    R"({"architectures": ["Ernie4_5_MoeForCausalLM"], "model_type": "ernie4_5_moe", "num_hidden_layers": 54,
        "hidden_size": 8192, "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 28672,
        "moe_num_experts": 64, "moe_k": 8, "moe_intermediate_size": 3584, "moe_num_shared_experts": 0,
        "moe_layer_start_index": 3, "moe_layer_end_index": 53, "tie_word_embeddings": false, )";

PlannedConfig load(const std::string& json) {
  testing_support::TemporaryFolder folder;
  std::ofstream(folder / "config.json") << json;
  return load_planned_config(folder.path());
}

TextConfig text(const char* shape) { return load(shape + std::string(kCommon) + "}").text; }

const MemoryPlan& find(const std::vector<MemoryPlan>& plans, const std::string& precision,
                       const std::string& cache) {
  for (const MemoryPlan& p : plans) {
    if (p.precision == precision && p.cache == cache) return p;
  }
  ADD_FAILURE() << precision << " " << cache;
  return plans.front();
}

double giga(uint64_t bytes) { return static_cast<double>(bytes) * 1e-9; }

TEST(MemoryPlan, Of21bIsThatOfTheDesign) {
  const TextConfig config = text(k21b);
  EXPECT_NEAR(static_cast<double>(config.num_parameters()) * 1e-9, 21.825, 0.001);
  EXPECT_NEAR(static_cast<double>(config.num_active_parameters()) * 1e-9, 3.35, 0.03);
  const std::vector<MemoryPlan> plans = plan_memory(config);
  const MemoryPlan& bf16 = find(plans, "bfloat16", "bfloat16");
  EXPECT_EQ(bf16.kv_token_bytes, 57344U);
  EXPECT_NEAR(giga(bf16.shared_step_bytes), 2.88, 0.02);
  EXPECT_NEAR(giga(bf16.expert_step_bytes), 0.637, 0.001);
  // All parameters, and the head once more beside the embedding.
  EXPECT_NEAR(giga(bf16.weight_bytes), 2 * (21.825 + 0.265), 0.02);
  EXPECT_EQ(find(plans, "bfloat16", "fp8").kv_token_bytes, 57344U / 2 + 2 * 28 * 4 * 2);
  EXPECT_EQ(find(plans, "w4a8", "int8").kv_token_bytes, 57344U / 2 + 2 * 28 * 4 * 2);
  // Half, a quarter, and less of an expert's bytes; scales are next to nothing.
  const auto share = [&](const char* precision, const char* cache) {
    return static_cast<double>(find(plans, precision, cache).expert_step_bytes) /
           static_cast<double>(bf16.expert_step_bytes);
  };
  EXPECT_NEAR(share("wint8", "bfloat16"), 0.5, 0.002);
  EXPECT_NEAR(share("fp8_channel", "fp8"), 0.5, 0.02);
  EXPECT_NEAR(share("wint4", "bfloat16"), 0.25, 0.002);
  EXPECT_NEAR(share("w4a8", "int8"), 0.25, 0.002);
  // Layers below 7 have 4 bits, so 20 of 27 have 2.5 or 2.
  EXPECT_NEAR(share("wint2.5", "int8"), (7 * 4 + 20 * 2.5) / 27 / 16, 0.03);
  EXPECT_LT(share("wint2", "int8"), share("wint2.5", "int8"));
}

TEST(MemoryPlan, TokensFollowTheEnginesRule) {
  const std::vector<MemoryPlan> plans = plan_memory(text(k21b));
  const MemoryPlan& bf16 = find(plans, "bfloat16", "bfloat16");
  EXPECT_GT(bf16.workspace_bytes, 0U);
  const auto expected =
      static_cast<int64_t>((static_cast<double>(139 * kGiB - bf16.weight_bytes) * 0.88 -
                            static_cast<double>(bf16.workspace_bytes)) /
                           57344);
  EXPECT_EQ(tokens_that_fit(bf16, 139 * kGiB, 0.88), expected);
  EXPECT_GT(expected, 1'500'000);
  EXPECT_EQ(tokens_that_fit(bf16, 40 * kGiB, 0.88), 0);
  EXPECT_GT(tokens_that_fit(find(plans, "wint4", "bfloat16"), 40 * kGiB, 0.88), 300'000);
}

TEST(MemoryPlan, OfTheSmallest) {
  const TextConfig config = text(k300m);
  EXPECT_NEAR(static_cast<double>(config.num_parameters()) * 1e-9, 0.361, 0.001);
  const std::vector<MemoryPlan> plans = plan_memory(config);
  const MemoryPlan& bf16 = find(plans, "bfloat16", "bfloat16");
  EXPECT_EQ(bf16.kv_token_bytes, 2U * 18 * 2 * 128 * 2);
  EXPECT_EQ(bf16.expert_step_bytes, 0U);
  EXPECT_NEAR(giga(bf16.shared_step_bytes), 0.17e-3 * 4300, 0.02);  // 0.17 ms at 4.3 TB/s
  for (const MemoryPlan& p : plans) EXPECT_NE(p.precision, "wint2") << "it has no experts";
}

TEST(MemoryPlan, OfTheLargest) {
  const TextConfig config = text(k300b);
  EXPECT_NEAR(static_cast<double>(config.num_parameters()) * 1e-9, 299.484, 0.01);
  const std::vector<MemoryPlan> plans = plan_memory(config);
  const MemoryPlan& bf16 = find(plans, "bfloat16", "bfloat16");
  // 94 GB per step of one request, 597 GB of many.
  EXPECT_NEAR(giga(bf16.shared_step_bytes + 8 * bf16.expert_step_bytes), 94, 1);
  EXPECT_NEAR(giga(bf16.shared_step_bytes + 64 * bf16.expert_step_bytes), 597, 1);
  EXPECT_EQ(tokens_that_fit(bf16, 141 * kGiB, 0.88), 0);
  // 74 GB of experts and the rest on one card.
  EXPECT_GT(tokens_that_fit(find(plans, "wint2", "int8"), 139 * kGiB, 0.88), 0);
}

TEST(MemoryPlan, TakesTheTextPartOfVisionModels) {
  const std::string flat =
      R"({"architectures": ["Ernie4_5_VLMoeForConditionalGeneration"], "model_type": "ernie4_5_moe_vl",
          "num_hidden_layers": 28, "hidden_size": 2560, "num_attention_heads": 20, "num_key_value_heads": 4,
          "intermediate_size": 12288, "moe_num_experts": [64, 64], "moe_k": 6, "moe_intermediate_size": [1536, 512],
          "moe_num_shared_experts": 2, "moe_layer_start_index": [1, 1], "moe_layer_end_index": [29, 28],
          "tie_word_embeddings": true, "im_patch_id": 100295, "rope_scaling": {"mrope_section": [22, 22, 20]},
          "vision_config": {"depth": 32}, )" +
      std::string(kCommon) + "}";
  const std::string nested =
      R"({"architectures": ["Ernie4_5_VLMoeForConditionalGeneration"], "model_type": "ernie4_5_vl_moe",
          "vision_config": {"depth": 32}, "image_token_id": 100295, "text_config": {
          "model_type": "ernie4_5_vl_moe_text", "num_hidden_layers": 28, "hidden_size": 2560, "num_attention_heads": 20,
          "num_key_value_heads": 4, "intermediate_size": 12288, "moe_num_experts": 64, "moe_k": 6,
          "moe_intermediate_size": [1536, 512], "moe_num_shared_experts": 2, "tie_word_embeddings": true,
          "mlp_layer_types": ["dense"],
          "rope_parameters": {"rope_type": "default", "rope_theta": 500000, "mrope_section": [22, 22, 20]},
          "vocab_size": 103424, "max_position_embeddings": 131072, "hidden_act": "silu"}})";
  for (const std::string& json : {flat, nested}) {
    const PlannedConfig planned = load(json);
    EXPECT_TRUE(planned.has_vision);
    EXPECT_EQ(planned.text.num_parameters(), text(k21b).num_parameters());
    EXPECT_EQ(planned.text.rope_theta, 500000);
  }
  EXPECT_FALSE(load(k21b + std::string(kCommon) + "}").has_vision);
}

TEST(MemoryPlan, ReadsSizes) {
  EXPECT_EQ(parse_bytes("139GiB"), 139 * kGiB);
  EXPECT_EQ(parse_bytes("80GB"), 80'000'000'000U);
  EXPECT_EQ(parse_bytes("1.5TiB"), 1536 * kGiB);
  EXPECT_EQ(parse_bytes("4096"), 4096U);
  for (const char* bad : {"", "GiB", "0GiB", "-3GiB", "12 GiB", "12gigs", "nan", "1e40GiB"})
    EXPECT_THROW(parse_bytes(bad), Error) << bad;
}

}  // namespace
}  // namespace erne
