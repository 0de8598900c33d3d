// The flags of `erne bench serving` (spec bench.md 1.3).
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace erne::cli {

struct ServingFlags {
  std::string backend = "sglang", base_url, host = "0.0.0.0", model, served_model_name, tokenizer;
  std::optional<int> port;
  std::string dataset_name = "sharegpt", dataset_path, prompt_suffix;
  int num_prompts = 1000, random_input_len = 1024, random_output_len = 1024;
  double random_range_ratio = 0;
  std::optional<int> sharegpt_output_len, sharegpt_context_len, max_concurrency;
  double request_rate = std::numeric_limits<double>::infinity();
  std::string output_file, extra_request_body, tag, goodput, report = "standard";
  bool output_details = false, print_requests = false, disable_tqdm = false, disable_stream = false;
  bool return_logprob = false, disable_ignore_eos = false, apply_chat_template = false,
       flush_cache = false;
  bool tokenize_prompt = false;
  uint32_t seed = 1;
  int warmup_requests = 1;
  double temperature = 0, flush_cache_timeout = 30, ready_check_timeout = 60;
  std::optional<double> top_p;
  std::vector<std::string> headers;
};

/// Adds every flag, those of the reference that are refused included. `flags` must outlive the
/// parse.
void add_serving_flags(CLI::App& app, ServingFlags& flags);

/// Values and combinations; throws Error{kInvalidArgument} naming the flag.
void check_serving_flags(const ServingFlags& flags);

}  // namespace erne::cli
