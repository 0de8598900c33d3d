// GGUF: metadata and tensors come out as they went in, blocks have the reference's values bit for
// bit, and hostile files are refused with key or tensor and cause.
#include "tensor/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "support/gguf_builder.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::GgufBuilder;

std::span<const std::byte> as_bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

const std::string kRow(128, '\x01');  // 32 float32 values

std::string error_of(const std::string& bytes) {
  try {
    GgufFile::parse(as_bytes(bytes), "file.gguf");
  } catch (const Error& e) {
    EXPECT_TRUE(e.code() == Code::kCorrupt || e.code() == Code::kUnsupported) << e.what();
    return e.what();
  }
  return "no error";
}

TEST(Gguf, ReadsMetadataAndTensors) {
  const std::string bytes = GgufBuilder()
                                .text("general.name", "x")
                                .u32("n", 7)
                                .f32("f", 0.5F)
                                .boolean("b", true)
                                .texts("words", {"a", "", "c c"})
                                .i32s("ids", {-1, 3})
                                .f32s("scores", {1, -2.5F})
                                .tensor("w", {1, 32}, 0, as_bytes(kRow))
                                .tensor("v", {32}, 0, as_bytes(kRow))
                                .bytes();
  const GgufFile file = GgufFile::parse(as_bytes(bytes), "file");
  EXPECT_EQ(file.text("general.name"), "x");
  EXPECT_EQ(file.integer("n"), 7);
  EXPECT_EQ(file.number("n"), 7.0);
  EXPECT_EQ(file.number("f"), 0.5);
  EXPECT_EQ(file.boolean("b"), true);
  EXPECT_THAT(*file.texts("words"), ElementsAre("a", "", "c c"));
  EXPECT_THAT(*file.integers("ids"), ElementsAre(-1, 3));
  EXPECT_THAT(*file.numbers("scores"), ElementsAre(1, -2.5));
  EXPECT_EQ(file.integer("absent"), std::nullopt);
  EXPECT_THROW(file.integer("general.name"), Error);
  EXPECT_THROW(file.integer("f"), Error);
  EXPECT_THROW(file.texts("ids"), Error);
  EXPECT_THROW(file.text("words"), Error);
  ASSERT_EQ(file.tensors().size(), 2U);
  EXPECT_EQ(file.find("w")->shape, (std::vector<int64_t>{1, 32}));
  EXPECT_EQ(file.find("v")->bytes, 128U);
  EXPECT_EQ(std::memcmp(file.find("v")->data, kRow.data(), 128), 0);
}

TEST(Gguf, BlocksHaveTheReferenceValues) {
  const SafetensorsFile golden = SafetensorsFile::open(std::filesystem::path(ERNE_TESTS_DIR) /
                                                       "goldens/gguf/blocks.safetensors");
  int types = 0;
  for (const StoredTensor& blocks : golden.tensors()) {
    const std::string& name = blocks.info.name;
    if (!name.ends_with(".blocks")) continue;
    const std::string type_name = name.substr(0, name.find('.'));
    SCOPED_TRACE(type_name);
    std::optional<GgufType> type;
    for (uint32_t id = 0; id < 40; ++id) {
      if (gguf_type_name(id) == type_name) type = gguf_type(id);
    }
    ASSERT_TRUE(type.has_value());
    const StoredTensor* values = golden.find(type_name + ".values");
    ASSERT_NE(values, nullptr);
    const auto n = static_cast<size_t>(values->bytes / 4);
    const GgufBlock block = gguf_block(*type);
    ASSERT_EQ(
        blocks.bytes / static_cast<uint64_t>(block.bytes) * static_cast<uint64_t>(block.values), n);
    std::vector<float> got(n);
    dequantize(*type, blocks.data, got.data(), static_cast<int64_t>(n));
    EXPECT_EQ(std::memcmp(got.data(), values->data, values->bytes), 0);
    ++types;
  }
  EXPECT_EQ(types, 11);
}

TEST(Gguf, RefusesHostileFiles) {
  const auto with_key = [](auto... parts) {
    std::string raw;
    (GgufBuilder::put(raw, parts), ...);
    return GgufBuilder().raw_key(raw).bytes();
  };
  const auto named_key = [](uint32_t type, std::string_view value) {
    std::string raw;
    GgufBuilder::put_text(raw, "k");
    GgufBuilder::put(raw, type);
    raw += value;
    return GgufBuilder().raw_key(raw).bytes();
  };
  const auto array_key = [&](uint32_t element, uint64_t count) {
    std::string value;
    GgufBuilder::put(value, element);
    GgufBuilder::put(value, count);
    return named_key(9, value);
  };
  const auto entry = [](std::vector<int64_t> dims, uint32_t type, uint64_t offset) {
    return GgufBuilder().table_entry("w", dims, type, offset).raw_data(kRow).bytes();
  };
  const std::string two = GgufBuilder()
                              .table_entry("a", {32}, 0, 0)
                              .table_entry("b", {32}, 0, 32)
                              .raw_data(kRow + kRow)
                              .bytes();
  const std::string doubled = GgufBuilder()
                                  .tensor("a", {32}, 0, as_bytes(kRow))
                                  .tensor("a", {32}, 0, as_bytes(kRow))
                                  .bytes();
  struct Case {
    const char* what;
    std::string bytes;
    const char* message;
  };
  const std::vector<Case> cases{
      {"empty", "", "the magic word needs 4 bytes"},
      {"magic", GgufBuilder().bytes(3, "GGML"), "does not begin with 'GGUF'"},
      {"version 1", GgufBuilder().bytes(1), "version 1 is not supported"},
      {"big endian", GgufBuilder().bytes(0x03000000), "(a big-endian file?)"},
      {"key length", with_key(uint64_t{1} << 40), "a metadata key of 1099511627776 bytes"},
      {"empty key", with_key(uint64_t{0}), "a metadata key of 0 bytes"},
      {"text length", named_key(8, std::string("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 8)),
       "'k' needs 18446744073709551615 bytes"},
      {"value type", named_key(13, "xxxx"), "'k' has the unknown or nested value type 13"},
      {"array of arrays", array_key(9, 1), "'k' has the unknown or nested value type 9"},
      {"array too long", array_key(4, uint64_t{1} << 40), "'k' needs 4398046511104 bytes"},
      {"array overflows", array_key(12, uint64_t{1} << 61),
       "'k' is an array of 2305843009213693952 values"},
      {"array of texts too long", array_key(8, uint64_t{1} << 60), "'k' needs"},
      {"doubled key", GgufBuilder().u32("k", 1).u32("k", 2).bytes(), "key 'k' stands twice"},
      {"alignment 0", GgufBuilder().u32("general.alignment", 0).bytes(), "general.alignment is 0"},
      {"alignment 24", GgufBuilder().u32("general.alignment", 24).bytes(),
       "general.alignment is 24"},
      {"alignment text", GgufBuilder().text("general.alignment", "32").bytes(),
       "'general.alignment' has value type 8"},
      {"no dimensions", entry({}, 0, 0), "'w' has 0 dimensions"},
      {"five dimensions", entry({1, 1, 1, 1, 1}, 0, 0), "'w' has 5 dimensions"},
      {"zero dimension", entry({32, 0}, 0, 0), "'w' has dimension 0"},
      {"negative dimension", entry({-32}, 0, 0), "'w' has dimension 18446744073709551584"},
      {"dimensions overflow", entry({1LL << 40, 1LL << 40}, 0, 0),
       "'w' has dimension 1099511627776"},
      {"unknown type", entry({32}, 99, 0), "'w' is stored as type 99"},
      {"unsupported type", entry({256}, 10, 0), "'w' is stored as Q2_K"},
      {"row is no multiple", entry({33}, 2, 0), "rows of 33 values; Q4_0 needs a multiple of 32"},
      {"row is no multiple of 256", entry({32}, 12, 0),
       "rows of 32 values; Q4_K needs a multiple of 256"},
      {"offset not aligned", entry({16}, 0, 4), "at offset 4, not a multiple"},
      {"offset behind the end", entry({32}, 0, 1 << 20), "(128 bytes at 1048576) leaves"},
      {"offset overflows", entry({32}, 0, ~uint64_t{31}), "leaves the file's"},
      {"too large", entry({1000000000}, 0, 0),
       "(4000000000 bytes at 0) leaves the file's 128 data bytes"},
      {"overlap", two, "'a' and 'b' overlap"},
      {"doubled tensor", doubled, "tensor 'a' stands twice"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const std::string message = error_of(c.bytes);
    EXPECT_THAT(message, HasSubstr(c.message));
    EXPECT_THAT(message, HasSubstr("file.gguf"));
  }
}

TEST(Gguf, EveryTruncationIsRefused) {
  const std::string bytes = GgufBuilder()
                                .texts("words", {"a", "bc"})
                                .u32("n", 1)
                                .tensor("w", {32}, 0, as_bytes(kRow))
                                .bytes();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_NE(error_of(bytes.substr(0, size)), "no error") << size;
  }
  EXPECT_EQ(error_of(bytes), "no error");
}

}  // namespace
}  // namespace erne
