#include "hub/http.h"

#include <curl/curl.h>

#include <charconv>
#include <chrono>
#include <exception>
#include <mutex>

#include "base/error.h"

namespace erne {
namespace {

constexpr int kMaxRedirects = 5;

void initialise_curl() {
  static std::once_flag once;
  std::call_once(once, [] { ERNE_CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); });
}

// One part of a parsed URL; libcurl allocates it.
std::string url_part(CURLU* handle, CURLUPart part, unsigned flags) {
  char* text = nullptr;
  if (curl_url_get(handle, part, &text, flags) != CURLUE_OK) return {};
  std::string copy = text;
  curl_free(text);
  return copy;
}

std::string header(CURL* handle, const char* name) {
  curl_header* found = nullptr;
  if (curl_easy_header(handle, name, 0, CURLH_HEADER, -1, &found) != CURLHE_OK) return {};
  return found->value;
}

int to_int(std::string_view text) {
  int value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value < 0 ? 0 : value;
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool is_final(CURLcode code) {
  return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
         code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT;
}

}  // namespace

Url parse_url(const std::string& text, std::string_view what) {
  const std::unique_ptr<CURLU, void (*)(CURLU*)> handle(curl_url(), curl_url_cleanup);
  ERNE_CHECK(handle != nullptr);
  if (curl_url_set(handle.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) {
    fail(Code::kInvalidArgument, "{} is '{}', which is no URL of the form https://host[:port]",
         what, text);
  }
  if (!url_part(handle.get(), CURLUPART_USER, 0).empty()) {
    fail(Code::kInvalidArgument, "{} holds a user name; use HF_TOKEN instead", what);
  }
  std::string host = url_part(handle.get(), CURLUPART_HOST, 0);
  for (char& c : host) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return {url_part(handle.get(), CURLUPART_SCHEME, 0), std::move(host),
          url_part(handle.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT)};
}

std::string url_escape(std::string_view text, Slash slash) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
  std::string escaped;
  for (const char c : text) {
    if (kPlain.find(c) != std::string_view::npos || (c == '/' && slash == Slash::kKeep)) {
      escaped += c;
    } else {
      escaped += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return escaped;
}

bool HttpAnswer::is_transient() const {
  if (!failure.empty()) return !failure_is_final;
  return status == 408 || status == 429 || status >= 500 || (status == 403 && redirected);
}

std::string HttpAnswer::reason() const {
  if (!failure.empty()) return failure;
  return fmt::format("HTTP status {}", status);
}

struct HttpClient::State {
  const HubSettings& settings;
  const std::atomic<bool>* stop;
  Url endpoint;
  std::unique_ptr<CURL, void (*)(CURL*)> curl;
  // Of the transfer in progress.
  HttpAnswer answer;
  const HttpSink* sink = nullptr;
  std::exception_ptr thrown;
  bool refused = false;
  bool stalled = false;
  curl_off_t last_received = -1;
  std::chrono::steady_clock::time_point last_change{};

  State(const HubSettings& s, const std::atomic<bool>* stop_flag)
      : settings(s),
        stop(stop_flag),
        endpoint(parse_url(s.endpoint, "HF_ENDPOINT")),
        curl(curl_easy_init(), curl_easy_cleanup) {
    ERNE_CHECK(curl != nullptr);
  }

  template <typename T>
  void set(CURLoption option, T value) {
    ERNE_CHECK(curl_easy_setopt(curl.get(), option, value) == CURLE_OK, "option {}",
               static_cast<int>(option));
  }

  void read_head() {
    long status = 0;
    curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
    answer.status = static_cast<int>(status);
    answer.content_range = header(curl.get(), "Content-Range");
    answer.error_code = header(curl.get(), "X-Error-Code");
    answer.link = header(curl.get(), "Link");
    answer.retry_after_s = to_int(header(curl.get(), "Retry-After"));
  }

  // libcurl is C: an exception waits here until it has returned.
  size_t take(const char* data, size_t size) {
    if (answer.status == 0) read_head();
    if (answer.status != 200 && answer.status != 206) return size;
    try {
      refused = !(*sink)(answer, data, size);
    } catch (...) {
      thrown = std::current_exception();
      refused = true;
    }
    return refused ? 0 : size;
  }

  static size_t on_data(char* data, size_t, size_t size, void* self) {
    return static_cast<State*>(self)->take(data, size);
  }

  // Called by libcurl at least once a second; its own low-speed limit averages and needs several
  // seconds more.
  int watch(curl_off_t received) {
    const auto now = std::chrono::steady_clock::now();
    if (received != last_received) {
      last_received = received;
      last_change = now;
    }
    stalled = now - last_change > std::chrono::seconds(settings.stall_timeout_s);
    return stalled || (stop != nullptr && stop->load()) ? 1 : 0;
  }

  static int on_progress(void* self, curl_off_t, curl_off_t received, curl_off_t, curl_off_t) {
    return static_cast<State*>(self)->watch(received);
  }

  void prepare(const std::string& url, uint64_t start) {
    curl_easy_reset(curl.get());
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_CONNECTTIMEOUT, static_cast<long>(settings.connect_timeout_s));
    set(CURLOPT_USERAGENT, "erne");
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    set(CURLOPT_WRITEFUNCTION, &State::on_data);
    set(CURLOPT_WRITEDATA, static_cast<void*>(this));
    set(CURLOPT_XFERINFOFUNCTION, &State::on_progress);
    set(CURLOPT_XFERINFODATA, static_cast<void*>(this));
    set(CURLOPT_NOPROGRESS, 0L);
    // Not CURLOPT_RESUME_FROM: it refuses a server that answers with the whole file, which the sink
    // can use.
    if (start > 0) set(CURLOPT_RANGE, fmt::format("{}-", start).c_str());
    if (endpoint.is_local_http())
      set(CURLOPT_PROXY, "");  // a proxy cannot reach this machine's ports
    if (const auto bundle = environment_variable("SSL_CERT_FILE"))
      set(CURLOPT_CAINFO, bundle->c_str());
  }

  // One request, redirects not followed.
  CURLcode perform(const std::string& url, uint64_t start) {
    answer = {};
    stalled = false;
    last_received = -1;
    prepare(url, start);
    curl_slist* headers = nullptr;
    if (!settings.token.empty() && parse_url(url, "URL").same_origin(endpoint)) {
      headers = curl_slist_append(headers,
                                  fmt::format("Authorization: Bearer {}", settings.token).c_str());
    }
    set(CURLOPT_HTTPHEADER, headers);
    const CURLcode code = curl_easy_perform(curl.get());
    if (answer.status == 0) read_head();
    curl_slist_free_all(headers);
    return code;
  }

  std::string redirect_target() {
    const char* target = nullptr;
    curl_easy_getinfo(curl.get(), CURLINFO_REDIRECT_URL, &target);
    return target == nullptr ? "" : target;
  }

  bool may_visit(const Url& url) const {
    return url.scheme == "https" || (url.is_local_http() && endpoint.is_local_http());
  }
};

HttpClient::HttpClient(const HubSettings& settings, const std::atomic<bool>* stop) {
  initialise_curl();
  state_ = std::make_unique<State>(settings, stop);
}

HttpClient::~HttpClient() = default;

HttpAnswer HttpClient::get(const std::string& url, uint64_t start, const HttpSink& sink) {
  State& s = *state_;
  s.sink = &sink;
  s.thrown = nullptr;
  s.refused = false;
  std::string target = url;
  for (int hop = 0; hop <= kMaxRedirects; ++hop) {
    const CURLcode code = s.perform(target, start);
    s.answer.redirected = !parse_url(target, "URL").same_origin(s.endpoint);
    if (s.thrown) std::rethrow_exception(s.thrown);
    if (s.refused) s.answer.failure = "the answer is not what was asked for";
    if (code != CURLE_OK && !s.refused) {
      s.answer.failure = s.stalled ? fmt::format("no byte for {} s", s.settings.stall_timeout_s)
                                   : curl_easy_strerror(code);
      s.answer.failure_is_final = is_final(code);
    }
    if (!s.answer.failure.empty() || !is_redirect(s.answer.status)) return s.answer;
    target = s.redirect_target();
    const Url next = target.empty() ? Url{} : parse_url(target, "redirect");
    if (!s.may_visit(next)) {
      s.answer.failure =
          fmt::format("redirected to '{}://{}', which is not https", next.scheme, next.host);
      s.answer.failure_is_final = true;
      return s.answer;
    }
  }
  s.answer.failure = fmt::format("more than {} redirects", kMaxRedirects);
  return s.answer;
}

}  // namespace erne
