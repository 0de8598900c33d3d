// HTTP GET over libcurl, with the two rules that the hub needs: the token goes to the endpoint's
// own host and never along a redirect to another, and nothing leaves this machine unencrypted.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "hub/settings.h"

namespace erne {

struct Url {
  std::string scheme, host, port;  ///< the port is spelled out also where it is the default

  bool same_origin(const Url& other) const {
    return scheme == other.scheme && host == other.host && port == other.port;
  }
  bool is_local_http() const {
    return scheme == "http" && (host == "localhost" || host == "127.0.0.1" || host == "[::1]");
  }
};

/// Throws Error{kInvalidArgument} naming `what` for text that is no absolute URL.
Url parse_url(const std::string& text, std::string_view what);

/// %XX for everything but letters, digits and -._~ (and '/' if kept).
enum class Slash { kKeep, kEscape };
std::string url_escape(std::string_view text, Slash slash);

struct HttpAnswer {
  int status = 0;                 ///< of the last answer; 0 when none came
  std::string failure;            ///< what broke on the way; empty if the answer is whole
  bool failure_is_final = false;  ///< trying again cannot help (certificate, refused redirect)
  std::string error_code;         ///< X-Error-Code: RepoNotFound, GatedRepo, RevisionNotFound, …
  std::string content_range;
  std::string link;  ///< the Link header (next page)
  int retry_after_s = 0;
  bool redirected = false;  ///< answered by another origin than the endpoint

  bool ok() const { return failure.empty() && (status == 200 || status == 206); }
  /// Worth another attempt: a broken transfer, 408, 429, 5xx, and 403 of a storage whose signed
  /// address has run out.
  bool is_transient() const;
  /// "503", or what broke, for messages.
  std::string reason() const;
};

/// Takes bytes of a 200 or 206 answer whose status and content_range are set; false ends the
/// transfer. May throw.
using HttpSink = std::function<bool(const HttpAnswer& head, const char* data, size_t size)>;

/// One connection; one thread at a time.
class HttpClient {
 public:
  /// `stop`, if not null, ends a transfer when it becomes true.
  HttpClient(const HubSettings& settings, const std::atomic<bool>* stop);
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  ~HttpClient();

  /// GET from byte `start` on (0: the whole), following redirects. Failures of the network are in
  /// the answer; what the sink throws comes through.
  HttpAnswer get(const std::string& url, uint64_t start, const HttpSink& sink);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace erne
