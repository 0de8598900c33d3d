// The fields that the generating routes share: sampling, limits, stops, identity; and the features
// refused by name.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/fields.h"
#include "server/service.h"

namespace erne::server {

/// What differs between the OpenAI routes and /generate.
struct SamplingNames {
  const char* max_tokens;        ///< the name in messages
  const char* max_tokens_alias;  ///< read when the first is absent; may be null
  const char* min_tokens;
  const char* seed_alias;  ///< besides "seed"; may be null
};
inline constexpr SamplingNames kChatNames{"max_completion_tokens", "max_tokens", "min_tokens",
                                          nullptr};
inline constexpr SamplingNames kCompletionNames{"max_tokens", nullptr, "min_tokens", nullptr};
inline constexpr SamplingNames kGenerateNames{"max_new_tokens", nullptr, "min_new_tokens",
                                              "sampling_seed"};

/// Reads temperature … logit_bias, n, stops and token limits into `request`; absent ones take the
/// model's generation_config.json where the server was told so. Throws
/// RequestError{kInvalidArgument}.
void read_sampling(Fields& fields, const SamplingNames& names, Service& service, Request& request);

struct Envelope {
  std::string model;  ///< echoed: as requested, else "default"
  std::string rid;    ///< as requested, else fresh with `id_prefix`
  std::string salt;   ///< separates the prefix cache
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
};
/// Reads model, rid, salts, stream and stream_options. Throws Error{kNotFound} for a model that is
/// not served.
Envelope read_envelope(Fields& fields, const std::string& id_prefix, const Service& service);
/// Throws Error{kNotFound} unless `model` is served (any name is, except unknown adapters, without
/// --strict-model-name).
void check_model_name(const std::string& model, const Service& service);

/// Throws RequestError{kUnsupported} naming the first field that asks for a feature which this
/// version does not have.
void refuse_unavailable(Fields& fields);

/// What a client calls the two sides of the context.
struct ContextFields {
  std::string prompt;
  std::string max_tokens;
};

/// Checks prompt plus answer against the context, or cuts them with --allow-auto-truncate.
/// Throws RequestError with code word context_length_exceeded and the field that `names` gives.
void fit_context(Request& request, const ContextFields& names, const Service& service);

}  // namespace erne::server
