// Calibration on the goldens: what GPTQ and AWQ gain, that folded scales change nothing by
// themselves, experts that few tokens reach, interrupted runs, and texts that cannot be used.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <stdexcept>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "model/calibrator.h"
#include "model/divergence.h"
#include "model/golden_gguf.h"
#include "model/layout.h"
#include "model/model_runner.h"
#include "model/quantize.h"
#include "support/temporary_folder.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing_support::distance;
using testing_support::kGoldens;
using testing_support::Runner;
using testing_support::TemporaryFolder;

constexpr CalibrationMethod kMethods[] = {CalibrationMethod::kGptq, CalibrationMethod::kAwq,
                                          CalibrationMethod::kAwqGptq};

// Tokens of which few are frequent, as in a language. Streams of other seeds are other texts.
std::vector<int32_t> text(uint64_t seed, int count) {
  std::vector<int32_t> ids;
  uint64_t state = seed;
  for (int i = 0; i < count; ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    const double u = static_cast<double>(state >> 40) / static_cast<double>(1 << 24);
    ids.push_back(static_cast<int32_t>(500 * u * u * u));
  }
  return ids;
}

CalibrationOptions calibration(Device& device, CalibrationMethod method, int samples = 12) {
  CalibrationOptions options;
  options.method = method;
  options.device = &device;
  for (int i = 0; i < samples; ++i)
    options.samples.push_back(text(static_cast<uint64_t>(i) + 1, 64 + i));
  return options;
}

QuantizeOptions options(const fs::path& input, const fs::path& output, const char* scheme) {
  return {.input = input,
          .output = output,
          .plan = QuantizationPlan::parse(scheme, ""),
          .num_threads = 2};
}

std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    files[entry.path().filename().string()] = read_file(entry.path());
  return files;
}

// Mean KL to the float32 golden over a text that calibration has not seen.
double kl(const fs::path& folder, const fs::path& golden) {
  const auto device = make_cpu_device(2);
  const auto load = [&](const fs::path& path) {
    return TextModel::load(Checkpoint::open(path), *device, {DType::kF32, false});
  };
  TextWindows held_out;
  held_out.ids = text(1000, 400);
  held_out.windows = cut_windows(400, {WindowMethod::kSliding, 64, 32});
  return measure_divergence(*load(golden), *load(folder), *device, held_out, {}).kl.mean;
}

TEST(Calibration, NeverWorseOnItsInputsAndBetterOnOthers) {
  const auto device = make_cpu_device(2);
  for (const char* golden : {"dense-tied", "dense-bias", "moe", "moe-sharded"}) {
    SCOPED_TRACE(golden);
    TemporaryFolder folder;
    quantize(options(kGoldens / golden, folder / "rounded", "wint4:g32"));
    const double rounded = kl(folder / "rounded", kGoldens / golden);
    EXPECT_GT(rounded, 0);
    for (const CalibrationMethod method : kMethods) {
      SCOPED_TRACE(calibration_name(method));
      QuantizeOptions o = options(kGoldens / golden, folder / "out", "wint4:g32");
      o.calibration = calibration(*device, method, 40);  // some 400 tokens an expert and more
      o.force = true;
      double before = 0;
      double after = 0;
      for (const TensorError& error : quantize(o).tensors) {
        ASSERT_TRUE(error.output) << error.name;
        EXPECT_GT(error.snr_db, 5) << error.name;
        if (method == CalibrationMethod::kGptq) {
          EXPECT_LE(error.output->written, error.output->rounded * (1 + 1e-9)) << error.name;
        }
        if (error.output->method == "rtn") continue;
        before += error.output->rounded;
        after += error.output->written;
      }
      EXPECT_LT(after, (method == CalibrationMethod::kAwq ? 1.0 : 0.9) * before);
      // Random weights have no outlying inputs that AWQ could protect: on the mixtures, where a
      // router's choice that flips costs most, it gains nothing.
      const bool mixture = std::string(golden).starts_with("moe");
      const bool may_lose = mixture && method != CalibrationMethod::kGptq;
      EXPECT_LT(kl(folder / "out", kGoldens / golden), (may_lose ? 1.1 : 1.0) * rounded);
    }
  }
}

// --- scales

// The golden with a kv head for each query head: the same model.
void ungroup(const fs::path& golden, const fs::path& folder) {
  const auto checkpoint = Checkpoint::open(golden);
  TextConfig config = checkpoint->config();
  Json json = parse_json(read_file(golden / "config.json"), "config.json");
  json["num_key_value_heads"] = config.num_heads;
  fs::create_directories(folder);
  write_file(folder / "config.json", json.dump());
  std::vector<TensorInfo> infos;
  std::vector<std::vector<float>> data;
  for (const ExpectedTensor& t : expected_tensors(config)) {
    std::vector<float> rows = testing_support::rows_of(*checkpoint, t);
    std::vector<int64_t> shape = t.pt_shape();
    if (t.name.find(".k_proj.") != t.name.npos || t.name.find(".v_proj.") != t.name.npos) {
      const size_t head = rows.size() / static_cast<size_t>(config.kv_heads);
      std::vector<float> repeated;
      for (int h = 0; h < config.num_heads; ++h) {
        const auto from =
            rows.begin() + h / (config.num_heads / config.kv_heads) * static_cast<ptrdiff_t>(head);
        repeated.insert(repeated.end(), from, from + static_cast<ptrdiff_t>(head));
      }
      rows = repeated;
      shape[0] = shape[0] / config.kv_heads * config.num_heads;
    }
    infos.push_back({t.name, DType::kF32, shape});
    data.push_back(std::move(rows));
  }
  SafetensorsWriter writer(folder / "model.safetensors", infos);
  for (const std::vector<float>& rows : data)
    writer.write(rows.data(), rows.size() * sizeof(float));
  writer.commit();
}

// Writes the model with its scales and without its rounding.
void write_scaled(const fs::path& input, const fs::path& folder,
                  const std::map<std::string, CalibratedTensors>& by_prefix) {
  const auto checkpoint = Checkpoint::open(input);
  fs::create_directories(folder);
  write_file(folder / "config.json", read_file(input / "config.json"));
  std::vector<TensorInfo> infos;
  std::vector<std::vector<float>> data;
  for (const ExpectedTensor& t : expected_tensors(checkpoint->config())) {
    std::vector<float> rows = testing_support::rows_of(*checkpoint, t);
    for (const auto& [prefix, tensors] : by_prefix) {
      if (!t.name.starts_with(prefix)) continue;
      if (tensors.overlay.numbers.contains(t.name)) rows = tensors.overlay.numbers.at(t.name);
      const auto linear = tensors.linears.find(t.name);
      if (linear == tensors.linears.end()) continue;
      const auto& [in, out] = std::tie(linear->second.input_scale, linear->second.output_scale);
      const auto cols = static_cast<size_t>(t.cols);
      for (size_t i = 0; i < rows.size(); ++i) {
        if (!in.empty()) rows[i] *= in[i % cols];
        if (!out.empty()) rows[i] /= out[i / cols];
      }
    }
    infos.push_back({t.name, DType::kF32, t.pt_shape()});
    data.push_back(std::move(rows));
  }
  SafetensorsWriter writer(folder / "model.safetensors", infos);
  for (const std::vector<float>& rows : data)
    writer.write(rows.data(), rows.size() * sizeof(float));
  writer.commit();
}

TEST(Calibration, FoldedScalesAloneChangeNothing) {
  const auto device = make_cpu_device(2);
  ThreadPool pool(2);
  for (const char* golden : {"dense-tied", "dense-bias", "moe"}) {
    SCOPED_TRACE(golden);
    TemporaryFolder folder;
    ungroup(kGoldens / golden, folder / "model");
    const Runner plain(folder / "model", golden, {DType::kF32, false});
    const std::vector<float> expected = plain.logits(1000);
    const auto vocab = static_cast<size_t>(plain.model().config().vocab_size);
    EXPECT_LT(distance(Runner(kGoldens / golden, golden, {DType::kF32, false}).logits(1000),
                       expected, vocab),
              1e-5);

    const auto checkpoint = Checkpoint::open(folder / "model");
    const TextConfig& config = checkpoint->config();
    const QuantizationPlan schemes = QuantizationPlan::parse("wint4:g32", "");
    const CalibrationPlan plan(config, schemes, CalibrationMethod::kAwq);
    const CalibrationOptions how = calibration(*device, CalibrationMethod::kAwq);
    Calibrator calibrator(*checkpoint, plan, how, pool, [](int) { return std::nullopt; });
    std::map<std::string, CalibratedTensors> layers;
    std::set<std::string> kinds;  // of linears with a scale
    for (int i = 0; i < config.num_layers; ++i) {
      const CalibratedTensors& tensors = layers[fmt::format("model.layers.{}.", i)] =
          calibrator.layer(i);
      for (const auto& [name, linear] : tensors.linears) {
        const std::string kind = name.substr(name.rfind('.', name.size() - 8) + 1, 2);
        for (const float s : linear.input_scale) {
          ASSERT_GT(s, 0);
          if (s != 1) kinds.insert(kind);
        }
      }
    }
    EXPECT_THAT(kinds, testing::IsSupersetOf({"q_", "k_", "v_", "o_", "ga", "up"}));
    write_scaled(folder / "model", folder / "scaled", layers);
    const Runner scaled(folder / "scaled", golden, {DType::kF32, false});
    const std::vector<float> logits = scaled.logits(1000);
    ASSERT_EQ(logits.size(), expected.size());
    float largest = 0;
    for (size_t i = 0; i < logits.size(); ++i)
      largest = std::max(largest, std::fabs(logits[i] - expected[i]));
    EXPECT_LE(largest, 1e-4F);
    EXPECT_GT(largest, 0);
  }
}

// Where a linear that reads a norm stays as it is, the norm does too.
TEST(Calibration, ScalesStayOutOfWhatIsNotRounded) {
  const TextConfig config = Checkpoint::open(kGoldens / "moe")->config();
  const auto rewritten = [&](const char* scheme, const char* mixed) {
    const QuantizationPlan schemes = QuantizationPlan::parse(scheme, mixed);
    return CalibrationPlan(config, schemes, CalibrationMethod::kAwq).rewritten();
  };
  EXPECT_THAT(rewritten("wint4", ""),
              testing::IsSupersetOf({"model.layers.0.input_layernorm.weight",
                                     "model.layers.1.post_attention_layernorm.weight",
                                     "model.layers.1.mlp.gate.weight"}));
  const auto without_shared = rewritten("wint4", "shared_experts=none");
  EXPECT_FALSE(without_shared.contains("model.layers.1.post_attention_layernorm.weight"));
  EXPECT_FALSE(without_shared.contains("model.layers.1.mlp.gate.weight"));
  EXPECT_TRUE(without_shared.contains("model.layers.1.input_layernorm.weight"));
  EXPECT_FALSE(
      rewritten("wint4", "attention=fp8_block").contains("model.layers.0.input_layernorm.weight"));
}

// --- experts

TEST(Calibration, ExpertsThatFewTokensReachAreRounded) {
  const auto device = make_cpu_device(2);
  for (const char* golden : {"moe", "moe-sharded"}) {
    SCOPED_TRACE(golden);
    TemporaryFolder folder;
    QuantizeOptions o = options(kGoldens / golden, folder / "out", "wint4:g32");
    o.calibration = calibration(*device, CalibrationMethod::kGptq);
    std::map<std::string, OutputError> outputs;
    int64_t tokens = 0;
    for (const auto& sample : o.calibration->samples) tokens += std::ssize(sample);
    for (const TensorError& error : quantize(o).tensors) outputs[error.name] = *error.output;
    int few = 0;
    int enough = 0;
    for (const auto& [name, output] : outputs) {
      if (name.find(".experts.") == name.npos) {
        EXPECT_EQ(output.rows, tokens) << name;
        continue;
      }
      EXPECT_EQ(output.method, output.rows < 256 ? "rtn" : "gptq") << name;
      (output.rows < 256 ? few : enough) += 1;
    }
    EXPECT_GT(few, 0);
    EXPECT_GT(enough, 0);
  }
}

TEST(Calibration, AnExpertsTokensAreThoseRoutedToIt) {
  const auto device = make_cpu_device(2);
  TemporaryFolder folder;
  QuantizeOptions o = options(kGoldens / "moe", folder / "out", "wint4:g32");
  o.calibration = calibration(*device, CalibrationMethod::kAwqGptq);
  int64_t tokens = 0;
  for (const auto& sample : o.calibration->samples) tokens += std::ssize(sample);
  std::map<std::string, int64_t> rows;  // of a layer's gate projections
  for (const TensorError& error : quantize(o).tensors) {
    const size_t at = error.name.find("mlp.experts.");
    if (at != error.name.npos && error.name.find("gate_proj") != error.name.npos)
      rows[error.name.substr(0, at)] += error.output->rows;
  }
  const int top_k = Checkpoint::open(kGoldens / "moe")->config().moe_top_k;
  EXPECT_EQ(rows.size(), 3U);
  for (const auto& [layer, count] : rows) EXPECT_EQ(count, tokens * top_k) << layer;
}

// --- interruptions

TEST(Calibration, TheSameBytesWithAnyThreadsAndWhereverItWasInterrupted) {
  const auto device = make_cpu_device(1);
  const auto other_device = make_cpu_device(3);
  for (const CalibrationMethod method : {CalibrationMethod::kGptq, CalibrationMethod::kAwqGptq}) {
    for (const char* golden : {"dense-bias", "moe"}) {
      SCOPED_TRACE(fmt::format("{} {}", golden, calibration_name(method)));
      TemporaryFolder folder;
      QuantizeOptions first = options(kGoldens / golden, folder / "first", "wint4:g32");
      first.plan = QuantizationPlan::parse("wint4:g32", "lm_head=wint8");
      first.calibration = calibration(*device, method, 8);
      first.max_shard_bytes = 60'000;
      first.num_threads = 1;
      const QuantizeResult result = quantize(first);
      ASSERT_GT(result.num_files, 3);
      const auto expected = contents(folder / "first");
      for (int stop_after = 1; stop_after < result.num_files; stop_after += 2) {
        QuantizeOptions second = first;
        second.output = folder / "second";
        second.num_threads = 3;
        second.calibration->device = other_device.get();
        int files = 0;
        second.file_done = [&](const std::string&) {
          if (++files == stop_after) throw std::runtime_error("interrupted");
        };
        EXPECT_THROW(quantize(second), std::runtime_error);
        second.file_done = {};
        EXPECT_EQ(quantize(second).num_resumed, stop_after);
        EXPECT_EQ(contents(folder / "second"), expected) << stop_after;
        fs::remove_all(folder / "second");
      }
    }
  }
}

TEST(Calibration, FilesOfAnotherTextAreNotUsed) {
  const auto device = make_cpu_device(2);
  TemporaryFolder folder;
  QuantizeOptions first = options(kGoldens / "dense-tied", folder / "out", "wint4");
  first.calibration = calibration(*device, CalibrationMethod::kGptq, 8);
  first.max_shard_bytes = 60'000;
  first.file_done = [](const std::string&) { throw std::runtime_error("interrupted"); };
  EXPECT_THROW(quantize(first), std::runtime_error);
  QuantizeOptions second = first;
  second.file_done = {};
  second.calibration->samples[0][0] ^= 1;
  EXPECT_EQ(quantize(second).num_resumed, 0);
}

// --- what cannot be calibrated

TEST(Calibration, RefusesWithTheReason) {
  const auto device = make_cpu_device(1);
  TemporaryFolder folder;
  QuantizeOptions o = options(kGoldens / "moe", folder / "out", "wint4");
  o.calibration = calibration(*device, CalibrationMethod::kGptq);
  const QuantizeOptions good = o;
  const auto error = [&]() -> std::string {
    try {
      quantize(o);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kInvalidArgument);
      EXPECT_FALSE(fs::exists(folder / "out.partial"));
      return e.what();
    }
    return "no error";
  };
  o.calibration->samples.clear();
  EXPECT_THAT(error(), AllOf(HasSubstr("0 tokens"), HasSubstr("256")));
  o = good;
  o.calibration->samples[1][2] = 512;
  EXPECT_THAT(error(), AllOf(HasSubstr("sample 1"), HasSubstr("512"), HasSubstr("0 to 511")));
  o = good;
  o.calibration->samples[1] = text(1, 1'000'000);
  EXPECT_THAT(error(), AllOf(HasSubstr("sample 1"), HasSubstr("1000000"), HasSubstr("context")));
  o = good;
  o.plan = QuantizationPlan::parse("fp8_block", "lm_head=wint8");
  EXPECT_THAT(error(), HasSubstr("fp8_block"));
  EXPECT_THROW(parse_calibration_method("rtn"), Error);
}

}  // namespace
}  // namespace erne
