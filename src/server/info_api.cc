#include "server/info_api.h"

#include <chrono>

#include "base/json.h"
#include "server/api_error.h"
#include "server/request_fields.h"

namespace erne::server {
namespace {

HttpResponse json_response(const OrderedJson& body) {
  HttpResponse response;
  response.body = dump_json(body);
  return response;
}

OrderedJson model_json(const Service& service) {
  OrderedJson model;
  model["id"] = service.options.served_model_name;
  model["object"] = "model";
  model["created"] = static_cast<int64_t>(service.start_time_s);
  model["owned_by"] = "erne";
  model["root"] = service.options.served_model_name;
  model["parent"] = nullptr;
  model["max_model_len"] = service.backend.load()->context_length();
  return model;
}

double gib(uint64_t bytes) { return static_cast<double>(bytes) / 0x1.0p30; }

}  // namespace

HttpResponse list_models(const Service& service) {
  OrderedJson body;
  body["object"] = "list";
  body["data"] = OrderedJson::array();
  body["data"].push_back(model_json(service));
  return json_response(body);
}

HttpResponse show_model(const Service& service, const std::string& id) {
  if (id != service.options.served_model_name && id != service.options.model_path) {
    throw RequestError(Code::kNotFound, "model",
                       fmt::format("The model '{}' does not exist. Known: {}", id.substr(0, 256),
                                   service.options.served_model_name));
  }
  return json_response(model_json(service));
}

HttpResponse model_info(const Service& service) {
  const TextConfig& config = service.backend.load()->config();
  OrderedJson body;
  body["model_path"] = service.options.model_path;
  body["tokenizer_path"] = service.options.tokenizer_path;
  body["is_generation"] = true;
  body["preferred_sampling_params"] = nullptr;
  body["weight_version"] = service.options.weight_version;
  body["has_image_understanding"] = false;
  body["has_audio_understanding"] = false;
  body["model_type"] = config.model_type;
  body["architectures"] = OrderedJson::array();
  body["architectures"].push_back(config.architecture);
  return json_response(body);
}

HttpResponse server_info(const Service& service, size_t num_connections) {
  const EngineStats s = service.backend.load()->stats();
  OrderedJson body = parse_ordered_json(service.options.launch_arguments, "launch arguments");
  OrderedJson memory;
  memory["weight"] = gib(s.weight_bytes);
  memory["kvcache"] = gib(s.kv_bytes);
  memory["token_capacity"] = s.pool_tokens;
  memory["graph"] = 0;
  OrderedJson state;
  state["last_gen_throughput"] = s.gen_throughput;
  state["memory_usage"] = std::move(memory);
  state["num_running_reqs"] = s.running;
  state["num_queue_reqs"] = s.queued;
  state["used_tokens"] = s.used_tokens;
  state["cached_tokens"] = s.cached_tokens;
  state["free_tokens"] = s.free_tokens;
  state["locked_nodes"] = s.locked_nodes;
  state["requests_total"] = s.requests_total;
  state["finished_total"] = s.finished_total;
  state["aborted_total"] = s.aborted_total;
  state["retractions_total"] = s.retractions_total;
  state["evicted_tokens_total"] = s.evicted_tokens_total;
  state["steps_total"] = s.steps_total;
  state["load_s"] = s.load_s;
  body["internal_states"] = OrderedJson::array();
  body["internal_states"].push_back(std::move(state));
  body["http_connections"] = num_connections;
  body["live_requests"] = service.live.size();
  body["client_disconnects_total"] = service.cancelled_total.load();
  body["version"] = ERNE_VERSION;
  return json_response(body);
}

HttpResponse load(const Service& service) {
  const EngineStats s = service.backend.load()->stats();
  const std::chrono::duration<double> now = std::chrono::steady_clock::now().time_since_epoch();
  OrderedJson rank;
  rank["dp_rank"] = 0;
  rank["num_reqs"] = s.running + s.queued;
  rank["num_waiting_reqs"] = s.queued;
  rank["num_tokens"] = s.used_tokens;
  rank["ts_tic"] = now.count();
  OrderedJson body = OrderedJson::array();
  body.push_back(std::move(rank));
  return json_response(body);
}

}  // namespace erne::server
