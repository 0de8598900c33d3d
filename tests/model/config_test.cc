// config.json and generation_config.json: every accepted spelling, every refused value with its
// key.
#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace erne {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A small dense and a small MoE configuration that the tests change key by key.
Json dense() {
  return Json::parse(
      R"({"architectures": ["Ernie4_5ForCausalLM"], "model_type": "ernie4_5", "hidden_size": 64,
    "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 100, "vocab_size": 200})");
}

Json moe() {
  Json json = dense();
  json.update(
      Json::parse(R"({"architectures": ["Ernie4_5_MoeForCausalLM"], "model_type": "ernie4_5_moe",
    "moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 48, "moe_num_shared_experts": 2})"));
  return json;
}

TextConfig parse(const Json& json) { return TextConfig::parse(json.dump(), "config.json"); }

std::string error_of(const Json& json, Code code) {
  try {
    parse(json);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  return "no error";
}

TEST(Config, Defaults) {
  const TextConfig c = parse(dense());
  EXPECT_EQ(c.kv_heads, 4);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.rope_theta, 500000);
  EXPECT_EQ(c.rms_norm_eps, 1e-5F);
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_FALSE(c.use_bias);
  EXPECT_EQ(c.dtype, DType::kBF16);
  EXPECT_EQ(c.max_position_embeddings, 131072);
  EXPECT_EQ(c.num_nextn_predict_layers, 0);
  EXPECT_FALSE(c.is_moe());
  EXPECT_FALSE(c.is_moe_layer(0));
}

TEST(Config, EverySpelling) {
  struct Case {
    const char* patch;
    double theta;
    DType dtype;
  };
  const std::vector<Case> cases{
      {R"({"rope_theta": 10000, "torch_dtype": "float16", "rope_scaling": null})", 10000,
       DType::kF16},
      {R"({"rope_parameters": {"rope_type": "default", "rope_theta": 123.5}, "dtype": "float32"})",
       123.5, DType::kF32},
      {R"({"rope_scaling": {"type": "default"}, "rope_theta": 7, "dtype": "torch.bfloat16"})", 7,
       DType::kBF16},
      {R"({"num_key_value_heads": null, "head_dim": null, "dtype": null, "hidden_act": "silu"})",
       500000, DType::kBF16},
      {R"({"architectures": ["Ernie4_5_ForCausalLM"], "compression_ratio": 1.0, "scale_qk_coeff": 1})",
       500000, DType::kBF16},
      {R"({"architectures": ["ErnieForCausalLM"], "model_type": "ernie", "moe_num_experts": 0, "fuse_rms_norm": true,
           "moe_group_experts": false, "use_rmsnorm": true, "max_sequence_length": 4096, "quantization_config": null})",
       500000, DType::kBF16},
      {R"({"architectures": null})", 500000, DType::kBF16},
      {R"({"model_type": null})", 500000, DType::kBF16},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.patch);
    Json json = dense();
    json.update(Json::parse(c.patch));
    const TextConfig config = parse(json);
    EXPECT_EQ(config.rope_theta, c.theta);
    EXPECT_EQ(config.dtype, c.dtype);
    EXPECT_EQ(config.kv_heads, 4);
  }
}

TEST(Config, MoeLayers) {
  Json json = moe();
  TextConfig c = parse(json);
  EXPECT_EQ(c.moe_layer_start, 1);
  EXPECT_EQ(c.moe_layer_end, 2);
  EXPECT_FALSE(c.is_moe_layer(0));
  EXPECT_TRUE(c.is_moe_layer(2));
  json.update(Json::parse(
      R"({"moe_num_experts": [8, 8], "moe_intermediate_size": [48, 16], "moe_layer_start_index": [0, 1],
    "moe_layer_end_index": [-1, 1], "moe_layer_interval": 2, "moe_capacity": [64, 64, 64], "moe_use_aux_free": true})"));
  c = parse(json);
  EXPECT_EQ(c.num_experts, 8);
  EXPECT_EQ(c.moe_intermediate_size, 48);
  EXPECT_EQ(c.moe_layer_end, 2);
  EXPECT_FALSE(c.is_moe_layer(0));
  EXPECT_TRUE(c.is_moe_layer(1));
  EXPECT_FALSE(c.is_moe_layer(2));
  json["moe_layer_end_index"] = 27;  // beyond the last layer: clamped
  EXPECT_EQ(parse(json).moe_layer_end, 2);
}

// The sizes of the released models (spec text.md 1.1) give the published parameter counts.
TEST(Config, ParametersOfTheReleases) {
  const auto with = [](Json base, const char* patch) {
    base.update(Json::parse(patch));
    return parse(base);
  };
  const TextConfig small =
      with(dense(), R"({"hidden_size": 1024, "num_hidden_layers": 18, "num_attention_heads": 16,
    "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 3072, "vocab_size": 103424})");
  EXPECT_NEAR(static_cast<double>(small.num_parameters()), 0.361e9, 0.5e6);
  EXPECT_EQ(small.num_active_parameters(), small.num_parameters());
  const TextConfig middle =
      with(moe(), R"({"hidden_size": 2560, "num_hidden_layers": 28, "num_attention_heads": 20,
    "num_key_value_heads": 4, "intermediate_size": 12288, "vocab_size": 103424, "moe_num_experts": 64, "moe_k": 6,
    "moe_intermediate_size": 1536})");
  EXPECT_NEAR(static_cast<double>(middle.num_parameters()), 21.825e9, 0.5e6);
  EXPECT_NEAR(static_cast<double>(middle.num_active_parameters()), 3.35e9, 0.3e9);
  const TextConfig large =
      with(moe(), R"({"hidden_size": 8192, "num_hidden_layers": 54, "num_attention_heads": 64,
    "num_key_value_heads": 8, "intermediate_size": 28672, "vocab_size": 103424, "moe_num_experts": 64, "moe_k": 8,
    "moe_intermediate_size": 3584, "moe_num_shared_experts": 0, "moe_layer_start_index": 3, "tie_word_embeddings": false})");
  EXPECT_NEAR(static_cast<double>(large.num_parameters()), 299.484e9, 0.5e6);
}

TEST(Config, RefusesWrongValues) {
  struct Case {
    const char* patch;
    const char* message;
    Code code = Code::kInvalidArgument;
  };
  constexpr Code kUnsupported = Code::kUnsupported;
  const std::vector<Case> cases{
      {R"({"hidden_size": null})", "hidden_size is missing"},
      {R"({"hidden_size": "64"})", "hidden_size is \"64\"; an integer"},
      {R"({"hidden_size": -64})", "hidden_size is -64"},
      {R"({"hidden_size": 64.5})", "hidden_size is 64.5"},
      {R"({"hidden_size": 1000000000})", "hidden_size is 1000000000"},
      {R"({"hidden_size": 18446744073709551615})", "hidden_size is 18446744073709551615"},
      {R"({"hidden_size": [64]})", "hidden_size is [64]"},
      {R"({"num_hidden_layers": 0})", "num_hidden_layers is 0"},
      {R"({"vocab_size": 0})", "vocab_size is 0"},
      {R"({"intermediate_size": null})", "intermediate_size is missing"},
      {R"({"num_attention_heads": 5})", "does not divide hidden_size 64"},
      {R"({"num_key_value_heads": 3})",
       "num_key_value_heads 3 does not divide num_attention_heads 4"},
      {R"({"head_dim": 15})", "head_dim is 15; RoPE needs an even one"},
      {R"({"num_attention_heads": 64})", "head_dim is 1; RoPE needs"},
      {R"({"num_attention_heads": 65536, "head_dim": 4096})",
       "num_attention_heads 65536 x head_dim 4096"},
      {R"({"rms_norm_eps": -1})", "rms_norm_eps is -1"},
      {R"({"rms_norm_eps": true})", "rms_norm_eps is true"},
      {R"({"rope_theta": 0})", "rope_theta is 0"},
      {R"({"use_bias": 1})", "use_bias is 1; true or false"},
      {R"({"torch_dtype": "int8"})", "torch_dtype is 'int8'; bfloat16"},
      {R"({"architectures": []})", "architectures is []"},
      {R"({"rope_scaling": 4})", "rope_scaling is 4"},
      {R"({"rope_scaling": {"type": "yarn", "factor": 4}})", "rope_scaling.type 'yarn'",
       kUnsupported},
      {R"({"rope_parameters": {"rope_type": "linear"}})", "rope_parameters.rope_type 'linear'",
       kUnsupported},
      {R"({"rope_parameters": {"partial_rotary_factor": 0.5}})", "partial_rotary_factor 0.5",
       kUnsupported},
      {R"({"compression_ratio": 2.0})", "compression_ratio is 2.0; only 1", kUnsupported},
      {R"({"scale_qk_coeff": 0.5})", "scale_qk_coeff is 0.5", kUnsupported},
      {R"({"hidden_act": "gelu"})", "hidden_act 'gelu'", kUnsupported},
      {R"({"moe_gate_act": "sigmoid"})", "moe_gate_act 'sigmoid'", kUnsupported},
      {R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama"})",
       "'LlamaForCausalLM' with model_type 'llama'", kUnsupported},
      {R"({"architectures": null, "model_type": null})", "architecture '' with model_type ''",
       kUnsupported},
      {R"({"architectures": ["Ernie4_5_VLMoeForConditionalGeneration"]})", "vision-language model",
       kUnsupported},
      {R"({"model_type": "ernie4_5_moe_vl"})", "vision-language model", kUnsupported},
      {R"({"vision_config": {"depth": 32}})", "vision_config marks a vision-language model",
       kUnsupported},
      {R"({"quantization_config": {"quant_method": "bitsandbytes"}})", "method bitsandbytes",
       kUnsupported},
      {R"({"quantization_config": {"quant_method": "awq", "bits": 3}})",
       "bits is 3; 4 are supported", kUnsupported},
      {R"({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 48}})",
       "group_size is 48", kUnsupported},
      {R"({"quantization_config": {"quant_method": "compressed-tensors", "format": "marlin-24"}})",
       "config_groups is null", kUnsupported},
      {R"({"quantization_config": {"quant_method": ["erne"]}})", "erne", kUnsupported},
      {R"({"quantization_config": {"dense_quant_type": "nf4", "is_permuted": true}})",
       "method 'nf4' is not supported", kUnsupported},
      {R"({"moe_num_experts": 8})", "moe_k is missing (moe_num_experts is 8)"},
      {R"({"num_hidden_layers": 4096, "moe_num_experts": 4096})",
       "num_hidden_layers 4096 x moe_num_experts 4096 is above"},
      {R"({"moe_num_experts": 8, "moe_k": 9, "moe_intermediate_size": 4})",
       "moe_k is 9; an integer from 1 to 8"},
      {R"({"moe_num_experts": 8, "moe_k": 2})", "moe_intermediate_size is missing"},
      {R"({"moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 4, "moe_layer_end_index": -2})",
       "moe_layer_end_index is -2"},
      {R"({"model_type": "ernie4_5_moe"})", "moe_num_experts is missing or 0"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.patch);
    Json json = dense();
    json.merge_patch(Json::parse(c.patch));
    const std::string message = error_of(json, c.code);
    EXPECT_THAT(message, HasSubstr(c.message));
    EXPECT_THAT(message, HasSubstr("config.json"));
  }
}

TEST(Config, RefusesWhatIsNoObject) {
  for (const char* text : {"", "[]", "3", "{\"a\": ", "null", "{} {}", "\xFF"}) {
    EXPECT_THROW(TextConfig::parse(text, "config.json"), Error) << text;
  }
  EXPECT_THROW(TextConfig::parse(std::string(100000, '['), "config.json"), Error);
}

TEST(GenerationConfig, ReadsAndRefuses) {
  const GenerationConfig c = GenerationConfig::parse(
      R"({"do_sample": true, "temperature": 0.8, "top_p": 0.8, "top_k": 50, "repetition_penalty": 1.0,
          "frequency_penalty": 0, "presence_penalty": -0.5, "min_p": null, "eos_token_id": [2, 100272],
          "bos_token_id": 1, "pad_token_id": 0, "max_new_tokens": 2048})",
      "generation_config.json");
  EXPECT_EQ(c.temperature, 0.8);
  EXPECT_EQ(c.top_k, 50);
  EXPECT_EQ(c.do_sample, true);
  EXPECT_EQ(c.presence_penalty, -0.5);
  EXPECT_EQ(c.min_p, std::nullopt);
  EXPECT_THAT(c.eos_ids, ElementsAre(2, 100272));
  EXPECT_EQ(c.bos_id, 1);
  EXPECT_EQ(c.pad_id, 0);
  EXPECT_THAT(GenerationConfig::parse(R"({"eos_token_id": 2})", "g").eos_ids, ElementsAre(2));
  EXPECT_TRUE(GenerationConfig::parse("{}", "g").eos_ids.empty());
  for (const char* text : {R"({"temperature": -1})", R"({"temperature": "hot"})",
                           R"({"top_p": 1.5})", R"({"top_k": 1.5})", R"({"eos_token_id": "x"})",
                           R"({"eos_token_id": [[2]]})", R"({"eos_token_id": -1})",
                           R"({"bos_token_id": 4294967296})", R"({"do_sample": 1})", "[]"}) {
    EXPECT_THROW(GenerationConfig::parse(text, "generation_config.json"), Error) << text;
  }
}

}  // namespace
}  // namespace erne
