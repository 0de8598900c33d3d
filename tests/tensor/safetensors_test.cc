// Safetensors: what the writer writes the reader reads, and every way a header can lie is refused
// with tensor and cause.
#include "tensor/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace erne {
namespace {

using testing::HasSubstr;

// Eight bytes of length, the header, then `data_bytes` bytes 0, 1, 2, ...
std::vector<std::byte> file_bytes(const std::string& header, size_t data_bytes,
                                  int64_t length_error = 0) {
  std::vector<std::byte> bytes(8 + header.size() + data_bytes);
  const uint64_t length = header.size() + static_cast<uint64_t>(length_error);
  std::memcpy(bytes.data(), &length, 8);
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  for (size_t i = 0; i < data_bytes; ++i) bytes[8 + header.size() + i] = static_cast<std::byte>(i);
  return bytes;
}

std::string error_of(const std::vector<std::byte>& bytes, Code code = Code::kCorrupt) {
  try {
    SafetensorsFile::parse(bytes, "file.safetensors");
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  return "no error";
}

TEST(Safetensors, ReadsTensorsGapsAndMetadata) {
  const auto bytes = file_bytes(
      R"({"__metadata__": {"format": "pt"},
          "b": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [8, 20]},
          "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
          "scalar": {"dtype": "I64", "shape": [], "data_offsets": [24, 32]},
          "empty": {"dtype": "F32", "shape": [0, 1099511627776], "data_offsets": [4, 4]}}   )",
      40);
  const SafetensorsFile file = SafetensorsFile::parse(bytes, "file");
  ASSERT_EQ(file.tensors().size(), 4U);
  EXPECT_EQ(file.tensors()[0].info.name, "a");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const StoredTensor* b = file.find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->info.dtype, DType::kBF16);
  EXPECT_EQ(b->info.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(b->bytes, 12U);
  EXPECT_EQ(b->data[0], std::byte{8});
  EXPECT_EQ(file.find("scalar")->bytes, 8U);
  EXPECT_EQ(file.find("empty")->bytes, 0U);
  EXPECT_EQ(file.find("c"), nullptr);
}

TEST(Safetensors, RefusesLyingHeaders) {
  struct Case {
    const char* what;
    const char* header;
    const char* message;
  };
  const std::vector<Case> cases{
      {"offset behind the end", R"({"w": {"dtype": "F32", "shape": [3], "data_offsets": [8, 20]}})",
       "'w': data_offsets [8, 20] leave"},
      {"huge offsets",
       R"({"w": {"dtype": "F32", "shape": [1], "data_offsets": [9223372036854775800, 9223372036854775804]}})",
       "leave the file's 16 data bytes"},
      {"offset above int64",
       R"({"w": {"dtype": "F32", "shape": [1], "data_offsets": [18446744073709551612, 0]}})",
       "'w': data_offsets holds 18446744073709551612"},
      {"reversed offsets", R"({"w": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}})",
       "'w': data_offsets [8, 4] leave"},
      {"negative offset", R"({"w": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}})",
       "'w': data_offsets holds the negative number -4"},
      {"negative dimension", R"({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}})",
       "'w': shape holds the negative number -1"},
      {"fractional dimension", R"({"w": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}})",
       "'w': 1.5 where"},
      {"size differs", R"({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}})",
       "shape [2] of F32 needs 8 bytes, data_offsets give 4"},
      {"10^9 elements",
       R"({"w": {"dtype": "F32", "shape": [1000000000], "data_offsets": [0, 16]}})",
       "needs 4000000000 bytes"},
      {"product overflows to the right size",
       R"({"w": {"dtype": "F32", "shape": [4611686018427387904, 4, 1], "data_offsets": [0, 0]}})",
       "needs too many bytes"},
      {"overlap",
       R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}})",
       "'a' and 'b' overlap"},
      {"same bytes twice",
       R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})",
       "overlap"},
      {"doubled tensor",
       R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})",
       "'a' stands twice"},
      {"doubled metadata", R"({"__metadata__": {}, "__metadata__": {}})",
       "'__metadata__' stands twice"},
      {"doubled field",
       R"({"a": {"dtype": "F32", "dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})",
       "'a': 'dtype' is given twice"},
      {"missing dtype", R"({"a": {"shape": [1], "data_offsets": [0, 4]}})", "'a' has no dtype"},
      {"missing shape", R"({"a": {"dtype": "F32", "data_offsets": [0, 4]}})", "'a' has no shape"},
      {"missing offsets", R"({"a": {"dtype": "F32", "shape": [1]}})", "'a' has no data_offsets"},
      {"one offset", R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4]}})",
       "data_offsets has 1 numbers"},
      {"unknown field", R"({"a": {"dtype": "F32", "shape": [1], "offset": 3}})",
       "unknown field 'offset'"},
      {"too many dimensions",
       R"({"a": {"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,1], "data_offsets": [0, 4]}})",
       "shape has more than 8"},
      {"tensor is a number", R"({"a": 3})", "'a': a number where"},
      {"tensor is null", R"({"a": null})", "'a': null where"},
      {"nested list", R"({"a": {"dtype": "F32", "shape": [[1]], "data_offsets": [0, 4]}})",
       "'a': an array where"},
      {"nested object", R"({"a": {"dtype": {}}})", "'a': an object where"},
      {"dtype is a number", R"({"a": {"dtype": 4}})", "'a': a number where"},
      {"metadata of numbers", R"({"__metadata__": {"n": 1}})", "a number where"},
      {"not an object", R"([])", "does not begin with '{'"},
      {"cut JSON", R"({"a": {"dtype": "F32", "shape": [1)", "the header is not JSON"},
      {"text behind", R"({} x)", "the header is not JSON"},
      {"invalid UTF-8", "{\"\xFF\": {}}", "the header is not JSON"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const std::string message = error_of(file_bytes(c.header, 16));
    EXPECT_THAT(message, HasSubstr(c.message));
    EXPECT_THAT(message, HasSubstr("file.safetensors"));
  }
}

TEST(Safetensors, RefusesUnknownDtypeByName) {
  const auto bytes =
      file_bytes(R"({"w": {"dtype": "F8_E5M2", "shape": [4], "data_offsets": [0, 4]}})", 4);
  EXPECT_THAT(error_of(bytes, Code::kUnsupported), HasSubstr("'w' has dtype F8_E5M2"));
}

TEST(Safetensors, RefusesLyingLengths) {
  EXPECT_THAT(error_of({}), HasSubstr("0 bytes are too few"));
  EXPECT_THAT(error_of(std::vector<std::byte>(7)), HasSubstr("7 bytes are too few"));
  EXPECT_THAT(error_of(file_bytes("", 0)), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(error_of(file_bytes("{}", 0, 1)), HasSubstr("a header of 3 bytes in a file of 10"));
  EXPECT_THAT(error_of(std::vector<std::byte>(64, std::byte{0xFF})),
              HasSubstr("a header of 18446744073709551615 bytes"));
}

// Every prefix of a good file must be refused or, behind the last tensor, read.
TEST(Safetensors, EveryTruncationIsRefused) {
  const auto bytes =
      file_bytes(R"({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", 8);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_NE(error_of({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)}),
              "no error")
        << size;
  }
  EXPECT_EQ(error_of(bytes), "no error");
}

TEST(Safetensors, HostileNamesAreShownSafely) {
  const auto bytes = file_bytes(
      R"({"\u001b[31mred\n": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}})", 4);
  EXPECT_THAT(error_of(bytes), HasSubstr("tensor '?[31mred?'"));
  EXPECT_EQ(printable_name(std::string(1000, 'x')).size(), 163U);
}

TEST(Safetensors, WriterAndReaderAgree) {
  const auto path = std::filesystem::path(testing::TempDir()) / "erne_writer.safetensors";
  const std::vector<float> a{1.5F, -2.0F};
  const std::vector<uint16_t> b{1, 2, 3};
  {
    SafetensorsWriter writer(path, {{"a", DType::kF32, {1, 2}}, {"b", DType::kU16, {3}}});
    writer.write(a.data(), 8);
    EXPECT_FALSE(std::filesystem::exists(path));
    writer.write(b.data(), 2);
    writer.write(b.data() + 1, 4);
    writer.commit();
    EXPECT_EQ(std::filesystem::file_size(path), writer.file_bytes());
  }
  const SafetensorsFile file = SafetensorsFile::open(path);
  ASSERT_EQ(file.tensors().size(), 2U);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.find("a")->info.shape, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(std::memcmp(file.find("a")->data, a.data(), 8), 0);
  EXPECT_EQ(file.find("b")->info.dtype, DType::kU16);
  EXPECT_EQ(std::memcmp(file.find("b")->data, b.data(), 6), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.find("a")->data) % 8, 0U);
  std::filesystem::remove(path);
}

TEST(Safetensors, WriterWithoutCommitLeavesNothing) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "erne_uncommitted";
  std::filesystem::create_directory(folder);
  { SafetensorsWriter writer(folder / "x.safetensors", {{"a", DType::kF32, {1}}}); }
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  std::filesystem::remove(folder);
}

}  // namespace
}  // namespace erne
