// What the server needs of an engine, as an interface: the real one in serve, a scripted one in
// tests.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "chat/chat_template.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "model/config.h"
#include "token/tokenizer.h"

namespace erne::server {

/// Thread-safe; meaning and errors as erne::Engine.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string submit(Request request, std::shared_ptr<OutputSink> sink) = 0;
  virtual void abort(const std::string& prefix) = 0;
  virtual bool flush_cache() = 0;
  virtual EngineStats stats() const = 0;
  virtual const Tokenizer& tokenizer() const = 0;
  virtual const ChatTemplate& chat_template() const = 0;
  virtual const TextConfig& config() const = 0;
  virtual const GenerationConfig& generation_config() const = 0;
  virtual int64_t context_length() const = 0;
};

}  // namespace erne::server
