// The words of --quantization and --mixed: what each linear of a model gets, and what is refused.
#include "model/quantization.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace erne {
namespace {

constexpr const char* kQ = "model.layers.3.self_attn.q_proj.weight";
constexpr const char* kDown = "model.layers.3.mlp.down_proj.weight";
constexpr const char* kExpert = "model.layers.12.mlp.experts.7.up_proj.weight";
constexpr const char* kShared = "model.layers.12.mlp.shared_experts.up_proj.weight";
constexpr const char* kHead = "lm_head.weight";

std::string given(const QuantizationPlan& plan, const char* name, bool is_moe) {
  const auto scheme = plan.scheme(name, is_moe);
  return scheme ? scheme->name() : "-";
}

TEST(QuantizationPlan, NamesRoundTrip) {
  for (const char* name :
       {"wint8", "wint8:g32", "wint4", "wint4:g64", "wint4:g128:min", "wint8:g64:min",
        "wint4:g32:min:mse", "fp8_block", "fp8_channel", "fp8_tensor", "fp8_tensor:r32", "w8a8",
        "w8a8:g64:min", "w4a8", "w4a8:r1", "w4a8:r512", "wint2.5", "wint2"}) {
    const auto scheme = parse_scheme(name);
    ASSERT_TRUE(scheme.has_value()) << name;
    EXPECT_EQ(scheme->name(), name);
  }
  EXPECT_FALSE(parse_scheme("none").has_value());
  EXPECT_FALSE(parse_scheme("bf16").has_value());
}

TEST(QuantizationPlan, WhatIsNeverQuantised) {
  const QuantizationPlan plan = QuantizationPlan::parse("wint8", "");
  EXPECT_EQ(given(plan, kQ, false), "wint8");
  EXPECT_EQ(given(plan, kDown, false), "wint8");
  for (const char* name :
       {"model.embed_tokens.weight", "model.norm.weight", "model.layers.0.input_layernorm.weight",
        "model.layers.1.mlp.gate.weight", "model.layers.1.mlp.moe_statics.e_score_correction_bias",
        "model.layers.0.self_attn.q_proj.bias", "model.mtp_block.0.self_attn.q_proj.weight",
        "lm_head.weight", "lm_head.bias"}) {
    EXPECT_EQ(given(plan, name, true), "-") << name;
  }
  EXPECT_TRUE(QuantizationPlan().empty());
  EXPECT_EQ(given(QuantizationPlan(), kQ, false), "-");
}

TEST(QuantizationPlan, FourBitsMeanTheExpertsOfAMixture) {
  const QuantizationPlan plan = QuantizationPlan::parse("wint4:g64", "");
  EXPECT_EQ(given(plan, kExpert, true), "wint4:g64");
  EXPECT_EQ(given(plan, kShared, true), "wint8");
  EXPECT_EQ(given(plan, kQ, true), "wint8");
  EXPECT_EQ(given(plan, kQ, false), "wint4:g64");
  EXPECT_EQ(given(QuantizationPlan::parse("fp8_block", ""), kQ, true), "fp8_block");
}

TEST(QuantizationPlan, TwoBitsMeanTheExpertsOfDeepLayers) {
  for (const char* scheme : {"wint2", "wint2.5"}) {
    const QuantizationPlan plan = QuantizationPlan::parse(scheme, "");
    EXPECT_EQ(given(plan, kExpert, true), scheme);
    EXPECT_EQ(given(plan, "model.layers.7.mlp.experts.0.up_proj.weight", true), scheme);
    EXPECT_EQ(given(plan, "model.layers.6.mlp.experts.0.up_proj.weight", true), "wint4");
    EXPECT_EQ(given(plan, kShared, true), "wint8");
    EXPECT_EQ(given(plan, kQ, true), "wint8");
    EXPECT_EQ(given(plan, kDown, false), "wint8");
    EXPECT_EQ(given(QuantizationPlan::parse("wint8", std::string("mlp=") + scheme), kDown, false),
              scheme);
  }
  const QuantizationPlan w4a8 = QuantizationPlan::parse("w4a8", "");
  EXPECT_EQ(given(w4a8, kExpert, true), "w4a8");
  EXPECT_EQ(given(w4a8, kQ, true), "wint8");
  EXPECT_EQ(given(w4a8, kQ, false), "w4a8");
}

TEST(QuantizationPlan, ExceptionsTheLastThatFits) {
  const QuantizationPlan plan = QuantizationPlan::parse(
      "wint4",
      "lm_head=wint8,experts=wint4:mse,experts@0-6=wint4:g128,experts@12=none,attention@3-=bf16");
  EXPECT_EQ(given(plan, kHead, true), "wint8");
  EXPECT_EQ(given(plan, kExpert, true), "-");
  EXPECT_EQ(given(plan, "model.layers.6.mlp.experts.0.up_proj.weight", true), "wint4:g128");
  EXPECT_EQ(given(plan, "model.layers.7.mlp.experts.0.up_proj.weight", true), "wint4:mse");
  EXPECT_EQ(given(plan, "model.layers.2.self_attn.o_proj.weight", true), "wint8");
  EXPECT_EQ(given(plan, kQ, true), "-");
  const QuantizationPlan dense = QuantizationPlan::parse("none", "dense=wint8:g32");
  EXPECT_EQ(given(dense, kQ, true), "wint8:g32");
  EXPECT_EQ(given(dense, kDown, true), "wint8:g32");
  EXPECT_EQ(given(dense, kShared, true), "wint8:g32");
  EXPECT_EQ(given(dense, kExpert, true), "-");
  EXPECT_FALSE(dense.empty());
}

TEST(QuantizationPlan, RefusesWordsWithWhatIsValid) {
  const auto error = [](const char* base, const char* mixed) -> std::string {
    try {
      QuantizationPlan::parse(base, mixed);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kInvalidArgument);
      return e.what();
    }
    return "no error";
  };
  const auto has = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(error("int8", ""), "'int8'");
  has(error("int8", ""), "wint4");
  has(error("wint4:g16", ""), "wint4:g16");
  has(error("wint4:", ""), "'wint4:'");
  has(error("fp8_block:g64", ""), "fp8_block:g64");
  has(error("wint2:g64", ""), "wint2:g64");
  has(error("w4a8:r48", ""), "w4a8:r48");
  has(error("w4a8:g32", ""), "w4a8:g32");
  has(error("fp8_channel:r32", ""), "fp8_channel:r32");
  has(error("", ""), "''");
  has(error("wint8", "lm_head"), "ROLE=SCHEME");
  has(error("wint8", "head=wint8"), "lm_head");
  has(error("wint8", "experts@3-1=wint4"), "before the first");
  has(error("wint8", "experts@x=wint4"), "'x'");
  has(error("wint8", "experts@-1=wint4"), "''");
  has(error("wint8", "experts@1-99999999999=wint4"), "99999999999");
  has(error("wint8", ","), "ROLE=SCHEME");
}

}  // namespace
}  // namespace erne
