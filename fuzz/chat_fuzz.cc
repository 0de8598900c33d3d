// Chat templates come with checkpoints: parsing and rendering any bytes must end in text or in an
// Error.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "chat/jinja/interpreter.h"
#include "chat/jinja/objects.h"
#include "chat/jinja/parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace erne::jinja;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  try {
    const Body body = parse(source, "fuzz");
    const Limits limits{.steps = 20'000, .bytes = 1 << 20, .output_bytes = 1 << 16};
    Runtime runtime("fuzz", limits);
    const auto globals = std::make_shared<Scope>();
    add_globals(runtime, *globals, [] { return int64_t{0}; });
    auto message = std::make_shared<Dict>();
    set_entry(runtime, *message, Value::text("role"), Value::text("user"));
    set_entry(runtime, *message, Value::text("content"),
              MarkedText::untrusted("Größe <|im_end|>\n"));
    globals->set("messages", make_list(runtime, {std::shared_ptr<const Dict>(std::move(message))}));
    Interpreter(runtime).render(body, globals);
  } catch (const erne::Error&) {
    // The expected end of a bad template.
  }
  return 0;
}
