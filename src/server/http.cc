// Boost.Asio coroutines over Beast's parser. Per connection two coroutines share one io thread and
// so need no lock: the reader always has a read outstanding (that is how a vanished client is
// noticed), the server parses, hands over and writes.
//
// g++ 12 destroys temporaries of a co_await expression twice: every operand is a named value.
#include "server/http.h"

#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/string_body.hpp>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "server/exchange.h"
#include "server/http_text.h"

namespace erne::server {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using SteadyClock = std::chrono::steady_clock;
using Parser = http::request_parser<http::string_body>;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr size_t kChunkBytes = size_t{16} << 10;
/// Unparsed bytes at which reading pauses.
constexpr size_t kReadBytes = size_t{64} << 10;
/// Bytes behind a running answer at which the connection is closed: only a read tells that a client
/// has gone, so while one waits for its answer reading never pauses.
constexpr size_t kPipelinedBytes = size_t{1} << 20;
/// After an answer that closes, this much of the client's rest is read and dropped: closing at once
/// would reset the connection and could take the answer with it.
constexpr size_t kLingerBytes = size_t{256} << 20;
constexpr std::chrono::seconds kLingerTime{10};

const char* reason(int status) {
  const auto text = http::obsolete_reason(static_cast<http::status>(status));
  return text.data();
}

std::string head_text(const HttpResponse& response, const std::string& framing, bool keep_alive,
                      const std::string& request_id) {
  std::string head =
      fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\nServer: erne\r\nx-request-id: {}\r\n",
                  response.status, reason(response.status), http_date(), request_id);
  if (!response.content_type.empty()) head += "Content-Type: " + response.content_type + "\r\n";
  for (const Header& h : response.headers) head += h.name + ": " + h.value + "\r\n";
  head += framing;
  head += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return head;
}

}  // namespace

class Session;

struct HttpServer::State {
  State(const HttpOptions& o, HttpApp& a) : options(o), app(a) {}
  HttpOptions options;
  HttpApp& app;
  std::shared_ptr<asio::io_context> io = std::make_shared<asio::io_context>(1);
  tcp::acceptor acceptor{*io};
  asio::steady_timer accept_pause{*io};
  std::set<Session*> sessions;  // io thread only
  std::atomic<size_t> num_sessions = 0;
  std::atomic<size_t> num_busy = 0;
  std::set<asio::steady_timer*> timers;  // io thread only: pending call_later
  bool stopping = false;                 // io thread only
  std::thread thread;

  void listen();
  asio::awaitable<void> accept_loop();
  void stop();
};

/// One connection.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(HttpServer::State& server, tcp::socket socket)
      : server_(server),
        socket_(std::move(socket)),
        wake_(*server.io),
        room_(*server.io),
        stall_(*server.io) {
    server_.sessions.insert(this);
    server_.num_sessions.store(server_.sessions.size());
  }
  ~Session() {
    server_.sessions.erase(this);
    server_.num_sessions.store(server_.sessions.size());
  }

  void start() {
    const auto self = shared_from_this();
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    socket_.non_blocking(true, ignored);
    asio::co_spawn(*server_.io, read_loop(self), asio::detached);
    asio::co_spawn(*server_.io, serve_loop(self), asio::detached);
  }
  void close() {
    closed_ = true;
    peer_gone();
    error_code ignored;
    socket_.close(ignored);
    room_.cancel();
  }
  void wake() { wake_.cancel(); }

 private:
  enum class Read { kOk, kClosed, kTimeout, kBad };

  // The coroutines hold `self`: the session lives until both have ended.
  asio::awaitable<void> read_loop(std::shared_ptr<Session> self);
  asio::awaitable<void> serve_loop(std::shared_ptr<Session> self);
  asio::awaitable<bool> serve_one(bool first);
  asio::awaitable<Read> read_head(Parser& parser, bool first);
  asio::awaitable<Read> read_body(Parser& parser);
  asio::awaitable<bool> answer(const HttpRequest& request, HttpResponse response, bool keep_alive);
  asio::awaitable<bool> run_exchange(HttpRequest request, bool keep_alive, bool http11);
  asio::awaitable<bool> write_all(std::string bytes);
  asio::awaitable<bool> wait_writable();
  asio::awaitable<void> wait_until(SteadyClock::time_point deadline);
  asio::awaitable<void> linger();
  void peer_gone();
  bool dead() const { return peer_gone_ || closed_; }
  bool feed(Parser& parser);

  HttpServer::State& server_;
  tcp::socket socket_;
  std::vector<char> chunk_ = std::vector<char>(kChunkBytes);  // where read_loop reads to
  boost::beast::flat_buffer in_;
  asio::steady_timer wake_;   // serve_loop sleeps here
  asio::steady_timer room_;   // read_loop sleeps here while in_ is full
  asio::steady_timer stall_;  // runs while a write waits
  std::shared_ptr<Exchange> exchange_;
  error_code parse_error_;
  bool peer_gone_ = false;
  bool closed_ = false;
  bool discard_ = false;
  size_t discarded_ = 0;
};

asio::awaitable<void> Session::read_loop([[maybe_unused]] std::shared_ptr<Session> self) {
  while (!closed_) {
    if (exchange_ && in_.size() >= kPipelinedBytes) {
      log::debug("a connection is closed: {} bytes wait behind a running answer", in_.size());
      close();
      break;
    }
    if (!exchange_ && in_.size() >= kReadBytes) {
      room_.expires_at(SteadyClock::time_point::max());
      co_await room_.async_wait(kToken);
      continue;
    }
    // Not straight into in_: the server may consume from it while the read is outstanding, which
    // moves it.
    const auto space = asio::buffer(chunk_);
    const auto [error, size] = co_await socket_.async_read_some(space, kToken);
    if (error) break;
    asio::buffer_copy(in_.prepare(size), asio::buffer(chunk_, size));
    in_.commit(size);
    if (discard_) {
      discarded_ += in_.size();
      in_.consume(in_.size());
    }
    wake_.cancel();
  }
  peer_gone();
}

void Session::peer_gone() {
  peer_gone_ = true;
  if (exchange_) exchange_->client_gone();
  wake_.cancel();
}

asio::awaitable<void> Session::wait_until(SteadyClock::time_point deadline) {
  wake_.expires_at(deadline);
  co_await wake_.async_wait(kToken);
}

/// Gives the parser what has arrived. False: it needs more; true: it is done or parse_error_ is
/// set.
bool Session::feed(Parser& parser) {
  if (in_.size() == 0) return false;
  const size_t used = parser.put(in_.data(), parse_error_);
  in_.consume(used);
  room_.cancel();
  if (parse_error_ == http::error::need_more) {
    parse_error_ = {};
    return false;
  }
  return static_cast<bool>(parse_error_);
}

asio::awaitable<Session::Read> Session::read_head(Parser& parser, bool first) {
  auto deadline =
      SteadyClock::now() + (first ? server_.options.header_timeout : server_.options.idle_timeout);
  bool begun = false;
  for (;;) {
    if (in_.size() > 0 && !begun) {
      begun = true;
      deadline = SteadyClock::now() + server_.options.header_timeout;
    }
    const size_t before = in_.size();
    if (feed(parser)) co_return Read::kBad;
    if (parser.is_header_done()) co_return Read::kOk;
    if (before != in_.size()) continue;
    if (in_.size() >= server_.options.max_header_bytes) {
      parse_error_ = http::error::header_limit;
      co_return Read::kBad;
    }
    if (dead()) co_return Read::kClosed;
    if (SteadyClock::now() >= deadline) co_return begun ? Read::kTimeout : Read::kClosed;
    co_await wait_until(deadline);
  }
}

asio::awaitable<Session::Read> Session::read_body(Parser& parser) {
  const auto begin = SteadyClock::now();
  parser.eager(true);
  for (;;) {
    const size_t before = in_.size();
    if (!parser.is_done() && feed(parser)) co_return Read::kBad;
    if (parser.is_done()) co_return Read::kOk;
    if (before != in_.size()) continue;
    if (dead()) co_return Read::kClosed;
    const auto allowed = server_.options.header_timeout +
                         std::chrono::milliseconds(parser.get().body().size() * 1000 /
                                                   server_.options.min_body_rate);
    if (SteadyClock::now() >= begin + allowed) co_return Read::kTimeout;
    co_await wait_until(begin + allowed);
  }
}

/// Waits until the socket takes bytes again; false after HttpOptions::stall_timeout or when it is
/// closed.
asio::awaitable<bool> Session::wait_writable() {
  stall_.expires_after(server_.options.stall_timeout);
  const std::weak_ptr<Session> weak = weak_from_this();
  stall_.async_wait([weak](const error_code& error) {
    const auto self = weak.lock();
    if (!error && self) self->close();
  });
  const auto [error] = co_await socket_.async_wait(tcp::socket::wait_write, kToken);
  stall_.cancel();
  co_return !error && !closed_;
}

asio::awaitable<bool> Session::write_all(std::string bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    if (closed_) co_return false;
    error_code error;
    done += socket_.write_some(asio::buffer(bytes.data() + done, bytes.size() - done), error);
    if (exchange_ && exchange_->full_for() > server_.options.stall_timeout) {
      close();
      co_return false;
    }
    if (error == asio::error::would_block) {
      const bool writable = co_await wait_writable();
      if (!writable) co_return false;
    } else if (error) {
      peer_gone();
      co_return false;
    }
  }
  co_return true;
}

asio::awaitable<bool> Session::answer(const HttpRequest& request, HttpResponse response,
                                      bool keep_alive) {
  server_.app.decorate(request, response);
  const std::string framing = fmt::format("Content-Length: {}\r\n", response.body.size());
  std::string text = head_text(response, framing, keep_alive, request.id);
  if (request.method != "HEAD") text += response.body;
  const bool sent = co_await write_all(std::move(text));
  co_return sent;
}

/// Hands the request to the API and writes what it answers until it is complete. False: close.
asio::awaitable<bool> Session::run_exchange(HttpRequest request, bool keep_alive, bool http11) {
  const std::weak_ptr<Session> weak = weak_from_this();
  const std::weak_ptr<asio::io_context> weak_io = server_.io;
  // Called from any thread: hop to the io thread, if it is still there.
  auto notify = [weak, weak_io] {
    const auto io = weak_io.lock();
    if (!io) return;
    asio::post(*io, [weak] {
      if (const auto self = weak.lock()) self->wake();
    });
  };
  exchange_ = std::make_shared<Exchange>(server_.options.max_pending_bytes, std::move(notify));
  room_.cancel();
  HttpRequest head;  // what decorate() and the answer need once the body has moved on
  head.method = request.method;
  head.path = request.path;
  head.headers = request.headers;
  head.id = request.id;
  const auto exchange = exchange_;
  server_.app.handle(std::move(request), exchange);

  bool chunked = false;
  std::string ping;
  auto last_write = SteadyClock::now();
  for (;;) {
    Exchange::Batch batch = exchange->take();
    std::string out;
    if (batch.head && batch.complete) {
      exchange_.reset();
      const bool sent = co_await answer(head, std::move(*batch.head), keep_alive);
      co_return sent&& keep_alive;
    }
    if (batch.head) {
      server_.app.decorate(head, *batch.head);
      chunked = http11;
      keep_alive = keep_alive && chunked;
      ping = batch.head->ping;
      const std::string framing = chunked ? "Transfer-Encoding: chunked\r\n" : "";
      out = head_text(*batch.head, framing, keep_alive, head.id);
    }
    if (!batch.bytes.empty()) {
      if (chunked) out += fmt::format("{:x}\r\n", batch.bytes.size());
      out += batch.bytes;
      if (chunked) out += "\r\n";
    }
    if (batch.ended && chunked) out += "0\r\n\r\n";
    if (!out.empty()) {
      const bool sent = co_await write_all(std::move(out));
      if (!sent) break;
      exchange->written();
      last_write = SteadyClock::now();
    }
    if (batch.ended) {
      exchange_.reset();
      co_return keep_alive;
    }
    if (exchange->has_output()) continue;
    if (dead()) break;
    const auto next_ping = last_write + server_.options.ping_interval;
    if (!ping.empty() && SteadyClock::now() >= next_ping) {
      exchange->write(ping);
      continue;
    }
    co_await wait_until(ping.empty() ? SteadyClock::time_point::max() : next_ping);
  }
  exchange->client_gone();
  exchange_.reset();
  co_return false;
}

/// One request and its answer. False: close the connection.
asio::awaitable<bool> Session::serve_one(bool first) {
  Parser parser;
  parser.header_limit(static_cast<uint32_t>(server_.options.max_header_bytes));
  parser.body_limit(server_.options.max_body_bytes);
  Read read = co_await read_head(parser, first);
  if (read == Read::kClosed) co_return false;

  HttpRequest request;
  request.method = std::string(parser.get().method_string());
  const std::string target(parser.get().target());
  const size_t mark = target.find('?');
  request.path = target.substr(0, mark);
  if (mark != std::string::npos) request.query = target.substr(mark + 1);
  for (const auto& field : parser.get()) {
    request.headers.push_back({std::string(field.name_string()), std::string(field.value())});
  }
  request.id = request_id(request.header("x-request-id"));
  std::optional<HttpResponse> refusal;
  bool keep_alive = parser.get().keep_alive();
  if (read == Read::kOk) {
    request.has_body = parser.chunked() || parser.content_length().value_or(0) > 0;
    refusal = server_.app.check_head(request);
    if (refusal) {
      const bool sent =
          co_await answer(request, std::move(*refusal), keep_alive && !request.has_body);
      co_return sent&& keep_alive && !request.has_body;
    }
    if (request.has_body && request.header("expect") == "100-continue") {
      std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
      const bool sent = co_await write_all(std::move(go_on));
      if (!sent) co_return false;
    }
    read = co_await read_body(parser);
  }
  if (read == Read::kClosed) co_return false;
  if (read != Read::kOk) {
    const ParseProblem problem =
        parse_error_ == http::error::body_limit     ? ParseProblem::kBodyTooLarge
        : parse_error_ == http::error::header_limit ? ParseProblem::kHeaderTooLarge
                                                    : ParseProblem::kSyntax;
    auto [status, message] = describe_parse_error(problem, parse_error_.message(), server_.options);
    if (read == Read::kTimeout) {
      status = 408;
      message = "the request did not arrive in time (--http-header-timeout)";
    }
    HttpResponse response = server_.app.refuse(status, message);
    co_await answer(request, std::move(response), false);
    co_return false;
  }
  const bool http11 = parser.get().version() >= 11;
  request.body = std::move(parser.get().body());
  server_.num_busy.fetch_add(1);
  const bool again = co_await run_exchange(std::move(request), keep_alive, http11);
  server_.num_busy.fetch_sub(1);
  co_return again;
}

asio::awaitable<void> Session::linger() {
  error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  discard_ = true;
  in_.consume(in_.size());
  room_.cancel();
  const auto deadline = SteadyClock::now() + kLingerTime;
  while (!dead() && discarded_ < kLingerBytes && SteadyClock::now() < deadline)
    co_await wait_until(deadline);
}

asio::awaitable<void> Session::serve_loop([[maybe_unused]] std::shared_ptr<Session> self) {
  bool again = true;
  for (bool first = true; again && !closed_ && !server_.stopping; first = false) {
    again = co_await serve_one(first);
  }
  if (!dead() && !server_.stopping) co_await linger();
  close();
}

void HttpServer::State::listen() {
  error_code error;
  tcp::resolver resolver(*io);
  const auto found =
      resolver.resolve(options.host, std::to_string(options.port),
                       tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error) fail(Code::kIo, "--host '{}': {}", options.host, error.message());
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(4096, error);
  if (error)
    fail(Code::kIo, "cannot listen on {}:{}: {}", options.host, options.port, error.message());
}

asio::awaitable<void> HttpServer::State::accept_loop() {
  while (!stopping) {
    auto [error, socket] = co_await acceptor.async_accept(kToken);
    if (!error) {
      std::make_shared<Session>(*this, std::move(socket))->start();
      continue;
    }
    if (stopping) break;
    log::warn("accepting a connection failed: {}",
              error.message());  // descriptors are short: wait for some to close
    accept_pause.expires_after(std::chrono::milliseconds(100));
    co_await accept_pause.async_wait(kToken);
  }
}

void HttpServer::State::stop() {
  stopping = true;
  error_code ignored;
  acceptor.close(ignored);
  accept_pause.cancel();
  for (asio::steady_timer* timer : timers) timer->cancel();
  const std::set<Session*> open = sessions;
  for (Session* session : open) session->close();
}

HttpServer::HttpServer(const HttpOptions& options, HttpApp& app)
    : state_(std::make_unique<State>(options, app)) {
  state_->listen();
  State* state = state_.get();
  asio::co_spawn(*state->io, state->accept_loop(), asio::detached);
  state_->thread = std::thread([state] { state->io->run(); });
}

HttpServer::~HttpServer() {
  State* state = state_.get();
  asio::post(*state->io, [state] { state->stop(); });
  state_->thread.join();
}

uint16_t HttpServer::port() const { return state_->acceptor.local_endpoint().port(); }

size_t HttpServer::num_connections() const { return state_->num_sessions.load(); }

size_t HttpServer::num_busy() const { return state_->num_busy.load(); }

void HttpServer::call_later(std::chrono::milliseconds delay, std::function<void()> task) {
  State* state = state_.get();
  asio::post(*state->io, [state, delay, task = std::move(task)]() mutable {
    if (state->stopping) return;
    const auto timer = std::make_shared<asio::steady_timer>(*state->io, delay);
    state->timers.insert(timer.get());
    timer->async_wait([state, timer, task = std::move(task)](const error_code& error) {
      state->timers.erase(timer.get());
      if (!error) task();
    });
  });
}

}  // namespace erne::server
