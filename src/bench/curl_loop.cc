#include "bench/curl_loop.h"

#include <curl/curl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"

namespace erne::bench {
namespace {

constexpr int kNoTimer = -1;

struct Transfer {
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  std::string body;
  TransferSink* sink = nullptr;
  std::array<char, CURL_ERROR_SIZE> error{};

  Transfer() = default;
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;
  ~Transfer() {
    curl_easy_cleanup(easy);
    curl_slist_free_all(headers);
  }
};

size_t write_callback(char* data, size_t size, size_t count, void* user) {
  static_cast<Transfer*>(user)->sink->on_bytes({data, size * count}, CurlLoop::now_s());
  return size * count;
}

template <typename T>
void set(CURL* easy, CURLoption option, T value) {
  const CURLcode code = curl_easy_setopt(easy, option, value);
  if (code != CURLE_OK)
    fail(Code::kInternal, "libcurl refused an option: {}", curl_easy_strerror(code));
}

void add_header(Transfer& transfer, const std::string& header) {
  curl_slist* longer = curl_slist_append(transfer.headers, header.c_str());
  if (longer == nullptr) fail(Code::kOutOfMemory, "no memory for a request header");
  transfer.headers = longer;
}

void set_up(Transfer& transfer, const HttpRequest& request) {
  CURL* easy = transfer.easy;
  set(easy, CURLOPT_URL, request.url.c_str());
  set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  set(easy, CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_1_1});
  set(easy, CURLOPT_NOSIGNAL, 1L);
  set(easy, CURLOPT_TCP_NODELAY, 1L);
  // A load client measures the server it names, never a proxy from the environment.
  set(easy, CURLOPT_PROXY, "");
  set(easy, CURLOPT_ERRORBUFFER, transfer.error.data());
  set(easy, CURLOPT_WRITEFUNCTION, &write_callback);
  set(easy, CURLOPT_WRITEDATA, &transfer);
  set(easy, CURLOPT_PRIVATE, &transfer);
  set(easy, CURLOPT_USERAGENT, "erne-bench");
  if (request.timeout_s > 0) set(easy, CURLOPT_TIMEOUT_MS, std::lround(request.timeout_s * 1000));
  for (const std::string& header : request.headers) add_header(transfer, header);
  if (request.post) {
    transfer.body = request.body;
    add_header(transfer, "Content-Type: application/json");
    add_header(transfer, "Expect:");  // no waiting for "100 Continue" before a long prompt
    set(easy, CURLOPT_POST, 1L);
    set(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(transfer.body.size()));
    set(easy, CURLOPT_POSTFIELDS, transfer.body.data());
  }
  set(easy, CURLOPT_HTTPHEADER, transfer.headers);
}

}  // namespace

struct CurlLoop::State {
  CURLM* multi = nullptr;
  int epoll = -1;
  double timer_s = kNoTimer;  // when libcurl wants to be called next
  std::unordered_map<CURL*, std::unique_ptr<Transfer>> transfers;
  std::unordered_set<int> watched;

  static int on_socket(CURL* easy, curl_socket_t socket, int what, void* user, void* unused);
  static int on_timer(CURLM* multi, long timeout_ms, void* user);
  void watch(int socket, int what);
  int wait_ms(double deadline_s) const;
  void act(curl_socket_t socket, int events);
  bool collect();
};

int CurlLoop::State::on_socket(CURL*, curl_socket_t socket, int what, void* user, void*) {
  static_cast<State*>(user)->watch(socket, what);
  return 0;
}

int CurlLoop::State::on_timer(CURLM*, long timeout_ms, void* user) {
  static_cast<State*>(user)->timer_s =
      timeout_ms < 0 ? kNoTimer : now_s() + static_cast<double>(timeout_ms) / 1000;
  return 0;
}

void CurlLoop::State::watch(int socket, int what) {
  if (what == CURL_POLL_REMOVE) {
    // libcurl may have closed it already; epoll forgets closed descriptors by itself.
    if (watched.erase(socket) > 0) epoll_ctl(epoll, EPOLL_CTL_DEL, socket, nullptr);
    return;
  }
  epoll_event event{};
  if ((what & CURL_POLL_IN) != 0) event.events |= EPOLLIN;
  if ((what & CURL_POLL_OUT) != 0) event.events |= EPOLLOUT;
  event.data.fd = socket;
  const int operation = watched.insert(socket).second ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  if (epoll_ctl(epoll, operation, socket, &event) == 0) return;
  // The number was closed and given out again without a notice, or the other way round.
  epoll_ctl(epoll, errno == EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket, &event);
}

int CurlLoop::State::wait_ms(double deadline_s) const {
  double until = deadline_s;
  if (timer_s != kNoTimer) until = std::min(until, timer_s);
  const double left_ms = std::ceil((until - now_s()) * 1000);
  return static_cast<int>(std::clamp(left_ms, 0.0, 60000.0));
}

void CurlLoop::State::act(curl_socket_t socket, int events) {
  int running = 0;
  const CURLMcode code = curl_multi_socket_action(multi, socket, events, &running);
  if (code != CURLM_OK) fail(Code::kIo, "libcurl: {}", curl_multi_strerror(code));
}

bool CurlLoop::State::collect() {
  bool any = false;
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    any = true;
    CURL* easy = message->easy_handle;
    const CURLcode code = message->data.result;
    const auto it = transfers.find(easy);
    ERNE_CHECK(it != transfers.end());
    const std::unique_ptr<Transfer> transfer = std::move(it->second);
    transfers.erase(it);
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_multi_remove_handle(multi, easy);
    std::string error;
    if (code != CURLE_OK)
      error = transfer->error[0] != 0 ? transfer->error.data() : curl_easy_strerror(code);
    transfer->sink->on_end(code == CURLE_OK ? static_cast<int>(status) : 0, error, now_s());
  }
  return any;
}

CurlLoop::CurlLoop() : state_(std::make_unique<State>()) {
  static const CURLcode global = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (global != CURLE_OK)
    fail(Code::kInternal, "libcurl does not start: {}", curl_easy_strerror(global));
  state_->multi = curl_multi_init();
  state_->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (state_->multi == nullptr || state_->epoll < 0)
    fail(Code::kIo, "cannot set up the HTTP client: {}", strerror(errno));
  curl_multi_setopt(state_->multi, CURLMOPT_SOCKETFUNCTION, &State::on_socket);
  curl_multi_setopt(state_->multi, CURLMOPT_SOCKETDATA, state_.get());
  curl_multi_setopt(state_->multi, CURLMOPT_TIMERFUNCTION, &State::on_timer);
  curl_multi_setopt(state_->multi, CURLMOPT_TIMERDATA, state_.get());
  curl_multi_setopt(state_->multi, CURLMOPT_MAXCONNECTS, 65536L);
}

CurlLoop::~CurlLoop() {
  drop_all();
  curl_multi_cleanup(state_->multi);
  if (state_->epoll >= 0) close(state_->epoll);
}

double CurlLoop::now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void CurlLoop::start(const HttpRequest& request, TransferSink& sink) {
  auto transfer = std::make_unique<Transfer>();
  transfer->easy = curl_easy_init();
  if (transfer->easy == nullptr) fail(Code::kOutOfMemory, "no memory for another connection");
  transfer->sink = &sink;
  set_up(*transfer, request);
  CURL* easy = transfer->easy;
  state_->transfers.emplace(easy, std::move(transfer));
  const CURLMcode code = curl_multi_add_handle(state_->multi, easy);
  if (code != CURLM_OK) fail(Code::kIo, "libcurl: {}", curl_multi_strerror(code));
}

void CurlLoop::drop_all() {
  for (auto& [easy, transfer] : state_->transfers) curl_multi_remove_handle(state_->multi, easy);
  state_->transfers.clear();
}

int CurlLoop::active() const { return static_cast<int>(state_->transfers.size()); }

void CurlLoop::run_until(double deadline_s) {
  std::array<epoll_event, 256> events;
  do {
    const int ready = epoll_wait(state_->epoll, events.data(), static_cast<int>(events.size()),
                                 state_->wait_ms(deadline_s));
    if (ready < 0 && errno != EINTR) fail(Code::kIo, "epoll_wait: {}", strerror(errno));
    for (int i = 0; i < ready; ++i) {
      const epoll_event& event = events[static_cast<size_t>(i)];
      int what = 0;
      if ((event.events & (EPOLLIN | EPOLLHUP)) != 0) what |= CURL_CSELECT_IN;
      if ((event.events & EPOLLOUT) != 0) what |= CURL_CSELECT_OUT;
      if ((event.events & EPOLLERR) != 0) what |= CURL_CSELECT_ERR;
      state_->act(event.data.fd, what);
    }
    if (state_->timer_s != kNoTimer && now_s() >= state_->timer_s) {
      state_->timer_s = kNoTimer;
      state_->act(CURL_SOCKET_TIMEOUT, 0);
    }
    if (state_->collect()) return;
  } while (!state_->transfers.empty() && now_s() < deadline_s);
}

HttpAnswer fetch(CurlLoop& loop, const HttpRequest& request) {
  struct Sink final : TransferSink {
    void on_bytes(std::string_view bytes, double) override {
      if (answer.body.size() + bytes.size() <= (size_t{64} << 20)) answer.body += bytes;
    }
    void on_end(int http_status, const std::string& error, double) override {
      answer.status = http_status;
      answer.error = error;
      ended = true;
    }
    HttpAnswer answer;
    bool ended = false;
  } sink;
  loop.start(request, sink);
  while (!sink.ended) loop.run_until(CurlLoop::now_s() + 1);
  return std::move(sink.answer);
}

size_t raise_file_limit(size_t wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  if (limit.rlim_cur < wanted) {
    rlimit raised = limit;
    raised.rlim_cur = std::min<rlim_t>(wanted, limit.rlim_max);
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  return static_cast<size_t>(limit.rlim_cur);
}

}  // namespace erne::bench
