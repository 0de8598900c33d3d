// Folders of other projects, made from one golden: every packing gives the same weights, and a
// folder with a lie in it is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/community_folder.h"
#include "model/quantized_tensors.h"

namespace erne {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using namespace testing_support;  // NOLINT

TEST_F(CommunityFolder, EveryFormatGivesTheSameWeights) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(format.config);
    const auto checkpoint = open(tensors(format.pack), format.config);
    for (const ExpectedTensor& t : expected_tensors(checkpoint->config())) {
      const auto codes = checkpoint->codes(t.name);
      ASSERT_EQ(codes != nullptr, quantised(t)) << t.name;
      if (codes == nullptr) continue;
      std::vector<float> row(static_cast<size_t>(t.cols));
      for (int64_t n = 0; n < t.rows; ++n) {
        dequantize_row(*codes, n, row.data());
        ASSERT_EQ(row, each<float>(t.cols, [&](int64_t k) { return value_of(n, k); })) << t.name;
      }
    }
  }
}

TEST_F(CommunityFolder, RefusesWhatContradictsItself) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(format.config);
    Tensors all = tensors(format.pack);
    for (const char* scale : {".scales", ".weight_scale"}) all.erase(std::string(kQ) + scale);
    EXPECT_THAT(refusal(all, format.config), HasSubstr(std::string(kQ) + "."));
    all = tensors(format.pack);
    for (auto& [name, tensor] : all) {
      if (name.starts_with(kQ) && tensor.info.shape.size() == 2)
        std::swap(tensor.info.shape[0], tensor.info.shape[1]);
    }
    EXPECT_THAT(refusal(all, format.config), HasSubstr(kQ));
  }
  Tensors all = tensors(gptq);
  all.erase(std::string(kQ) + ".qzeros");
  EXPECT_THAT(refusal(all, kFormats[1].config), HasSubstr("q_proj.qzeros' is missing"));
  const char* grouped = R"({"quant_method": "gptq", "bits": 4, "group_size": 32})";
  EXPECT_THAT(refusal(tensors(gptq), grouped), HasSubstr("q_proj.qzeros"));
}

// --- compressed-tensors: targets and ignore lists

Json groups_of(const char* ignore, const char* groups) {
  Json json = Json::parse(kPackedConfig);
  json["ignore"] = Json::parse(ignore);
  json["config_groups"] = Json::parse(groups);
  return json;
}

constexpr const char* kInt4 = R"({"num_bits": 4, "type": "int", "strategy": "channel"})";

// The linears that `is_out` names stay numbers.
template <typename IsOut>
Tensors partly(const Tensors& quantised, const Tensors& plain, const IsOut& is_out) {
  Tensors all;
  for (const auto& [name, tensor] : quantised) {
    if (!is_out(name)) all[name] = tensor;
  }
  for (const auto& [name, tensor] : plain) {
    if (is_out(name)) all[name] = tensor;
  }
  return all;
}

class CompressedFolder : public CommunityFolder {
 protected:
  Tensors plain() const {
    return tensors([this](const std::string& module, int64_t rows, int64_t cols) {
      return std::vector<Stored>{stored(module + ".weight", DType::kF32, {rows, cols},
                                        std::vector<float>(static_cast<size_t>(rows * cols)))};
    });
  }
  static std::string one_group(const char* targets) {
    return fmt::format(R"({{"group_0": {{"targets": {}, "weights": {}}}}})", targets, kInt4);
  }
};

TEST_F(CompressedFolder, IgnoresByNamePatternAndClass) {
  const auto is_v = [](const std::string& name) { return name.find(".v_proj.") != name.npos; };
  const Tensors all = partly(tensors(packed), plain(), is_v);
  for (const char* ignore :
       {R"(["re:.*v_proj$", "lm_head"])", R"(["re:.*\\.v_proj"])",
        R"(["model.layers.0.self_attn.v_proj", "re:model.layers.[1-9].*v_proj"])"}) {
    const Json json = groups_of(ignore, one_group(R"(["Linear"])").c_str());
    const auto checkpoint = open(all, json.dump().c_str());
    EXPECT_EQ(checkpoint->codes("model.layers.1.self_attn.v_proj.weight"), nullptr) << ignore;
    EXPECT_NE(checkpoint->codes("model.layers.1.self_attn.q_proj.weight"), nullptr) << ignore;
  }
}

TEST_F(CompressedFolder, TargetsByPatternAndSeveralGroups) {
  const auto is_attention = [](const std::string& name) {
    return name.find(".self_attn.") != name.npos;
  };
  const Tensors all = partly(tensors(packed), tensors(int8), is_attention);
  const Json json = groups_of("[]", fmt::format(R"({{"a": {{"targets": ["Linear"], "weights": {}}},
          "b": {{"targets": ["re:.*self_attn.*_proj"], "format": "int-quantized",
                 "weights": {{"num_bits": 8, "type": "int", "strategy": "channel"}}}}}})",
                                                kInt4)
                                        .c_str());
  const auto checkpoint = open(all, json.dump().c_str());
  EXPECT_EQ(checkpoint->codes("model.layers.0.self_attn.q_proj.weight")->format().type,
            CodeType::kInt8);
  EXPECT_EQ(checkpoint->codes("model.layers.0.mlp.up_proj.weight")->format().type, CodeType::kInt4);
}

TEST_F(CompressedFolder, RefusesContradictionsByName) {
  const std::string linear = one_group(R"(["Linear"])");
  const auto is_q = [](const std::string& name) { return name.starts_with(kQ); };
  const Tensors whole = tensors(packed);
  const Tensors partial = partly(whole, plain(), is_q);
  const auto message = [&](const Tensors& all, const char* ignore, const std::string& groups) {
    return refusal(all, groups_of(ignore, groups.c_str()).dump().c_str());
  };
  EXPECT_EQ(message(whole, "[]", linear), "no error");
  EXPECT_THAT(message(partial, "[]", linear), AllOf(HasSubstr(kQ), HasSubstr("ignore")));
  EXPECT_THAT(message(whole, R"(["re:.*q_proj"])", linear),
              AllOf(HasSubstr(kQ), HasSubstr("stored quantised")));
  EXPECT_THAT(message(whole, "[]", one_group(R"(["re:.*(up|gate|down)_proj"])")),
              AllOf(HasSubstr("self_attn"), HasSubstr("no target")));
  EXPECT_THAT(message(whole, "[]", one_group(R"(["re:(unclosed"])")), HasSubstr("(unclosed"));
  EXPECT_THAT(message(whole, "[]", one_group("[7]")), HasSubstr("7 is no name"));
  EXPECT_THAT(message(whole, R"("lm_head")", linear), HasSubstr("a list of names"));
  EXPECT_THAT(message(whole, "[]", one_group("[]")), HasSubstr("targets is missing"));
  const std::string twice = fmt::format(
      R"({{"a": {{"targets": ["Linear"], "weights": {0}}}, "b": {{"targets": ["Linear"], "weights": {0}}}}})",
      kInt4);
  EXPECT_THAT(message(whole, "[]", twice), AllOf(HasSubstr("\"a\""), HasSubstr("\"b\"")));
}

// A pattern that makes backtracking matchers run for ever.
TEST_F(CompressedFolder, HostilePatternsEnd) {
  const std::string groups = one_group(R"(["Linear", "re:(([a-z_.0-9]*)*)*!"])");
  EXPECT_EQ(refusal(tensors(packed), groups_of("[]", groups.c_str()).dump().c_str()), "no error");
}

}  // namespace
}  // namespace erne
