// An engine without a model: answers every prompt with a fixed text, one byte a token, on a thread
// of its own.
#pragma once

#include <atomic>
#include <condition_variable>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "server/backend.h"

namespace erne::server {

/// Ids 0 to 255 are bytes, 256 is </s>.
class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr int32_t kEos = 256;
  ByteTokenizer();
  using Tokenizer::encode;
  std::vector<int32_t> encode(std::string_view text,
                              std::span<const ByteRange> untrusted) const override;
  std::string_view token_bytes(int32_t id) const override;
  std::string token_name(int32_t id) const override;
  bool is_special(int32_t id) const override { return id == kEos; }
  std::optional<int32_t> find(std::string_view name) const override;
  int32_t vocab_size() const override { return 257; }

 private:
  friend class FakeBackend;
  std::vector<std::string> tokens_;
  mutable std::atomic<bool> held_ = false;
  mutable std::atomic<int> encoding_ = 0;
};

class FakeBackend final : public Backend {
 public:
  FakeBackend();
  ~FakeBackend() override;

  std::string submit(Request request, std::shared_ptr<OutputSink> sink) override;
  void abort(const std::string& prefix) override;
  bool flush_cache() override;
  EngineStats stats() const override;
  const Tokenizer& tokenizer() const override { return tokenizer_; }
  const ChatTemplate& chat_template() const override { return *template_; }
  const TextConfig& config() const override { return config_; }
  const GenerationConfig& generation_config() const override { return generation_; }
  int64_t context_length() const override { return 1000; }

  /// What every choice says; then </s>.
  void set_reply(std::string reply);
  /// Requests get no token until this is false again.
  void set_held(bool held);
  /// Waits until exactly `count` requests are live; false after 10 s.
  bool wait_live(size_t count);
  void set_max_live(size_t count);
  /// What stats() says of the queue.
  void set_queued(int count, int64_t tokens = 0);
  /// What stats() says of the device.
  void set_fault(std::string fault);
  /// The first choice of the next request fails with an engine error at once, held or not.
  void set_fail_next();
  /// Tokenizing waits until this is false again.
  void set_encode_held(bool held);
  /// Texts that were given to the tokenizer.
  int encoded() const { return tokenizer_.encoding_.load(); }
  uint64_t aborted() const { return aborted_.load(); }
  /// Calls of flush_cache().
  uint64_t flushes() const { return flushes_.load(); }
  /// The last request that was submitted.
  Request last() const;

  GenerationConfig generation_;

 private:
  struct Choice {
    int index;
    size_t done = 0;
    StreamDecoder decoder;
  };
  struct Live {
    Request request;
    std::shared_ptr<OutputSink> sink;
    std::list<Choice> choices;
    bool aborted = false;
    bool fails = false;
  };

  void run();
  static bool fail_first(Live& live);
  bool step(Live& live, const std::string& reply);

  ByteTokenizer tokenizer_;
  std::unique_ptr<ChatTemplate> template_;
  TextConfig config_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Live> live_;
  std::string reply_ = "Hello", fault_;
  Request last_;
  bool held_ = false, stopping_ = false, fail_next_ = false;
  size_t max_live_ = 1000;
  int queued_ = 0;
  int64_t queued_tokens_ = 0;
  std::atomic<uint64_t> aborted_ = 0, flushes_ = 0;
  std::thread thread_;
};

}  // namespace erne::server
