// The hub's answers, which name files and folders on this machine. The first byte picks the reader.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "hub/listing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    switch (data[0] % 4) {
      case 0:
        for (const erne::RepoFile& file : erne::parse_tree(text)) {
          // What was accepted must stay inside: this is the property, not only the absence of
          // crashes.
          const std::string path = "/" + file.path + "/";
          if (file.path.empty() || path.find("/../") != path.npos || path.find("//") != path.npos)
            __builtin_trap();
        }
        break;
      case 1:
        erne::parse_index(text);
        break;
      case 2:
        erne::parse_commit(text);
        break;
      default:
        if (erne::is_repo_id(text) && text.find("..") != text.npos) __builtin_trap();
        erne::next_page(text);
    }
  } catch (const erne::Error&) {
  }
  return 0;
}
