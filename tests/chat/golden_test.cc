// Renders every template and snippet of goldens/chat and compares with what jinja2 made of it
// (make_golden.py).
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "chat/chat_template.h"

namespace erne {
namespace {

OrderedJson read_golden(const char* name) {
  const std::filesystem::path path =
      std::filesystem::path(ERNE_TESTS_DIR) / "goldens" / "chat" / name;
  return parse_ordered_json(read_file(path), name);
}

// {"template", "messages", "tools"?, "kwargs"?, "add_generation_prompt", "continue"?} and "text" or
// "error": true.
void check(const OrderedJson& test, const std::string& source) {
  ChatInput input;
  input.messages = &test["messages"];
  if (test.contains("tools")) input.tools = &test["tools"];
  if (test.contains("kwargs")) input.kwargs = &test["kwargs"];
  input.add_generation_prompt = test.value("add_generation_prompt", false);
  input.continue_final_message = test.value("continue", false);
  if (test.contains("error")) {
    EXPECT_THROW(ChatTemplate::parse(source, "golden")->render(input), Error) << source;
    return;
  }
  try {
    EXPECT_EQ(ChatTemplate::parse(source, "golden")->render(input).text,
              test["text"].get<std::string>())
        << source;
  } catch (const Error& e) {
    ADD_FAILURE() << e.what() << "\n" << source;
  }
}

TEST(ChatGolden, SnippetsRenderAsInJinja) {
  const OrderedJson golden = read_golden("snippets.json");
  ASSERT_GT(golden["cases"].size(), 300U);
  const OrderedJson messages = OrderedJson::array({{{"role", "user"}, {"content", "hello"}}});
  for (OrderedJson test : golden["cases"]) {
    test["messages"] = messages;
    test["kwargs"] = golden["variables"];
    check(test, test["source"].get<std::string>());
  }
}

TEST(ChatGolden, TemplatesRenderAsInTransformers) {
  const OrderedJson golden = read_golden("templates.json");
  ASSERT_GT(golden["cases"].size(), 100U);
  for (OrderedJson test : golden["cases"]) {
    SCOPED_TRACE(test["template"].get<std::string>() + " / " +
                 test["conversation"].get<std::string>());
    const OrderedJson& conversation =
        golden["conversations"][test["conversation"].get<std::string>()];
    test["messages"] = conversation["messages"];
    if (conversation.contains("tools")) test["tools"] = conversation["tools"];
    check(test, golden["templates"][test["template"].get<std::string>()].get<std::string>());
  }
}

}  // namespace
}  // namespace erne
