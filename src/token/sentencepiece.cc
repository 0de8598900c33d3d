#include "token/sentencepiece.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "base/utf8.h"
#include "token/byte_alphabet.h"

namespace erne {
namespace {

constexpr std::string_view kSpacePiece = "\u2581";
constexpr size_t kMaxPieceBytes = 4096;

// One field of a protobuf message: a number (varint, fixed32, fixed64) or bytes.
struct Field {
  uint64_t number = 0;
  uint32_t wire_type = 0;
  uint64_t value = 0;
  std::string_view bytes;
};

// Walks the fields of a protobuf message (protobuf.dev, "Encoding"). Every length is checked
// against what is left.
class Message {
 public:
  Message(std::string_view bytes, const std::string& file) : left_(bytes), file_(file) {}

  std::optional<Field> next() {
    if (left_.empty()) return std::nullopt;
    const uint64_t tag = varint();
    Field field{tag >> 3, static_cast<uint32_t>(tag & 7), 0, {}};
    switch (field.wire_type) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        field.value = fixed(4);
        break;
      default:
        fail(Code::kCorrupt, "{}: not a SentencePiece model (protobuf wire type {})", file_,
             field.wire_type);
    }
    return field;
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    fail(Code::kCorrupt, "{}: not a SentencePiece model (a number of over 64 bits)", file_);
  }

  uint64_t fixed(size_t size) {
    const std::string_view raw = take(size);
    uint64_t value = 0;
    for (size_t i = 0; i < size; ++i)
      value |= static_cast<uint64_t>(static_cast<unsigned char>(raw[i])) << 8 * i;
    return value;
  }

  std::string_view take(uint64_t size) {
    if (size > left_.size()) {
      fail(Code::kCorrupt, "{}: not a SentencePiece model, or cut off ({} bytes wanted, {} left)",
           file_, size, left_.size());
    }
    const std::string_view out = left_.substr(0, size);
    left_.remove_prefix(size);
    return out;
  }

  std::string_view left_;
  const std::string& file_;
};

// SentencePiece.Type of sentencepiece_model.proto.
enum class PieceType : uint64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct Piece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

struct Model {
  std::vector<Piece> pieces;
  uint64_t type = 1;  // TrainerSpec.ModelType: 1 unigram, 2 BPE, 3 word, 4 char
  bool byte_fallback = false;
  bool whitespace_suffix = false;
  bool charsmap = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

Piece read_piece(std::string_view bytes, size_t index, const std::string& file) {
  Piece piece;
  Message message(bytes, file);
  while (const auto field = message.next()) {
    if (field->number == 1 && field->wire_type == 2) piece.text = field->bytes;
    if (field->number == 2 && field->wire_type == 5)
      piece.score = std::bit_cast<float>(static_cast<uint32_t>(field->value));
    if (field->number == 3 && field->wire_type == 0)
      piece.type = static_cast<PieceType>(field->value);
  }
  if (piece.text.empty()) fail(Code::kCorrupt, "{}: piece {} has no text", file, index);
  if (piece.text.size() > kMaxPieceBytes)
    fail(Code::kCorrupt, "{}: piece {} is {} bytes long", file, index, piece.text.size());
  if (!utf8::valid(piece.text))
    fail(Code::kCorrupt, "{}: piece {} is not valid UTF-8", file, index);
  if (!std::isfinite(piece.score))
    fail(Code::kCorrupt, "{}: the score of piece {} is not a number", file, index);
  if (piece.type < PieceType::kNormal || piece.type > PieceType::kByte) {
    fail(Code::kCorrupt, "{}: piece {} has the unknown type {}", file, index,
         static_cast<uint64_t>(piece.type));
  }
  if (piece.type == PieceType::kUnused)
    fail(Code::kUnsupported, "{}: piece {} is of type UNUSED, which is not built", file, index);
  return piece;
}

void read_trainer(std::string_view bytes, const std::string& file, Model& model) {
  Message message(bytes, file);
  while (const auto field = message.next()) {
    if (field->wire_type != 0) continue;
    if (field->number == 3) model.type = field->value;
    if (field->number == 24) model.whitespace_suffix = field->value != 0;
    if (field->number == 35) model.byte_fallback = field->value != 0;
  }
}

void read_normalizer(std::string_view bytes, const std::string& file, Model& model) {
  Message message(bytes, file);
  while (const auto field = message.next()) {
    if (field->number == 2 && field->wire_type == 2) model.charsmap = !field->bytes.empty();
    if (field->wire_type != 0) continue;
    if (field->number == 3) model.add_dummy_prefix = field->value != 0;
    if (field->number == 4) model.remove_extra_whitespaces = field->value != 0;
    if (field->number == 5) model.escape_whitespaces = field->value != 0;
  }
}

Model read_model(std::string_view bytes, const std::string& file) {
  Model model;
  Message message(bytes, file);
  while (const auto field = message.next()) {
    if (field->wire_type != 2) continue;
    if (field->number == 1) {
      if (model.pieces.size() > static_cast<size_t>(Vocabulary::kMaxId)) {
        fail(Code::kCorrupt, "{}: more than {} pieces", file, Vocabulary::kMaxId);
      }
      model.pieces.push_back(read_piece(field->bytes, model.pieces.size(), file));
    }
    if (field->number == 2) read_trainer(field->bytes, file, model);
    if (field->number == 3) read_normalizer(field->bytes, file, model);
  }
  if (model.pieces.empty()) fail(Code::kCorrupt, "{}: not a SentencePiece model (no pieces)", file);
  return model;
}

void check_built(const Model& model, const std::string& file) {
  const auto refuse = [&](const char* what) {
    fail(Code::kUnsupported, "{}: {} is not built", file, what);
  };
  if (model.type != 2)
    fail(Code::kUnsupported, "{}: SentencePiece model type {} is not built (2, BPE, is)", file,
         model.type);
  if (model.whitespace_suffix) refuse("treat_whitespace_as_suffix");
  if (model.charsmap) refuse("a normalisation rule (precompiled_charsmap)");
  if (model.remove_extra_whitespaces) refuse("remove_extra_whitespaces");
  if (!model.escape_whitespaces) refuse("escape_whitespaces = false");
}

void add_pieces(const Model& model, const std::string& file, BpeParts& parts) {
  std::vector<bool> bytes(256, false);
  parts.vocabulary.reserve(model.pieces.size());
  parts.model_token.assign(model.pieces.size(), true);
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const Piece& piece = model.pieces[i];
    const auto id = static_cast<int32_t>(i);
    if (!parts.vocabulary.add(piece.text, id))
      fail(Code::kCorrupt, "{}: piece {} repeats \"{}\"", file, i, piece.text);
    switch (piece.type) {
      case PieceType::kUnknown:
        if (parts.options.unk)
          fail(Code::kCorrupt, "{}: pieces {} and {} are both unknown", file, *parts.options.unk,
               i);
        parts.options.unk = id;
        [[fallthrough]];
      case PieceType::kControl:
        parts.added.push_back({.id = id, .content = piece.text, .special = true});
        break;
      case PieceType::kUserDefined:
        // Its text is that of normalised input: a space is written U+2581.
        parts.added.push_back({.id = id, .content = piece.text, .normalized = true});
        break;
      case PieceType::kByte: {
        const auto byte = byte_piece(piece.text);
        if (!byte) fail(Code::kCorrupt, "{}: byte piece {} is called \"{}\"", file, i, piece.text);
        bytes[*byte] = true;
        break;
      }
      default:
        break;
    }
  }
  if (model.byte_fallback && std::count(bytes.begin(), bytes.end(), true) != 256) {
    fail(Code::kCorrupt, "{}: byte_fallback is on, but only {} of 256 byte pieces are there", file,
         std::count(bytes.begin(), bytes.end(), true));
  }
}

// Every split of a piece into two pieces is a merge, of the rank that its score has among all
// scores (best first).
void add_merges(const Model& model, BpeParts& parts) {
  std::vector<float> scores;
  for (const Piece& piece : model.pieces) {
    if (piece.type == PieceType::kNormal) scores.push_back(piece.score);
  }
  std::sort(scores.begin(), scores.end(), std::greater<>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  const auto mergeable = [&](std::string_view text) -> std::optional<int32_t> {
    const auto id = parts.vocabulary.find(text);
    if (!id || model.pieces[static_cast<size_t>(*id)].type != PieceType::kNormal)
      return std::nullopt;
    return id;
  };
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const Piece& piece = model.pieces[i];
    if (piece.type != PieceType::kNormal) continue;
    const auto rank =
        std::lower_bound(scores.begin(), scores.end(), piece.score, std::greater<>()) -
        scores.begin();
    const std::string_view text = piece.text;
    for (size_t at = static_cast<size_t>(utf8::decode(text, 0).size); at < text.size();
         at += static_cast<size_t>(utf8::decode(text, at).size)) {
      const auto left = mergeable(text.substr(0, at));
      const auto right = left ? mergeable(text.substr(at)) : std::nullopt;
      if (right)
        parts.merges.push_back(
            {*left, *right, static_cast<int32_t>(i), static_cast<uint32_t>(rank)});
    }
  }
}

}  // namespace

BpeParts read_sentencepiece(std::string_view bytes, const std::string& file) {
  const Model model = read_model(bytes, file);
  check_built(model, file);
  BpeParts parts;
  add_pieces(model, file, parts);
  add_merges(model, parts);
  parts.options.byte_fallback = model.byte_fallback;
  parts.options.fuse_unk = true;
  if (model.add_dummy_prefix) parts.normalizer.add(Normalizer::Prepend{std::string(kSpacePiece)});
  parts.normalizer.add(Normalizer::Replace{" ", std::string(kSpacePiece)});
  parts.token_text.replace.emplace_back(kSpacePiece, " ");
  parts.token_text.byte_pieces = true;
  parts.decode.bytes = DecodeRules::Bytes::kRuns;
  if (model.add_dummy_prefix) {
    parts.decode.strip_start = " ";
    parts.decode.strip_count = 1;
  }
  return parts;
}

}  // namespace erne
