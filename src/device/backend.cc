#include "device/backend.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/error.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> folders() {
  std::vector<fs::path> list;
  if (const char* own = std::getenv("ERNE_BACKEND_DIR")) list.emplace_back(own);
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  list.push_back(program);
  list.push_back(program.parent_path() / "lib" / "erne");
  return list;
}

fs::path find_library(const std::string& name, const std::string& build_hint) {
  const std::string file = "liberne_" + name + ".so";
  std::string looked_in;
  for (const fs::path& folder : folders()) {
    std::error_code ignored;
    if (fs::exists(folder / file, ignored)) return folder / file;
    looked_in += (looked_in.empty() ? "" : ", ") + folder.string();
  }
  fail(Code::kUnsupported, "--device {}: this installation has no {} (looked in {}); {}", name,
       file, looked_in, build_hint);
}

// The library stays loaded: Buffers may outlive their device and are freed by its code.
template <typename Function>
Function symbol(void* library, const char* name, const fs::path& path) {
  void* found = ::dlsym(library, name);
  if (found == nullptr)
    fail(Code::kUnsupported, "{} is not a backend of erne: it has no {}", path.string(), name);
  return reinterpret_cast<Function>(found);
}

}  // namespace

const char* backend_build() { return ERNE_BACKEND_BUILD; }

std::unique_ptr<Device> open_backend(const std::string& name, int index, int threads,
                                     const std::string& build_hint) {
  const fs::path path = find_library(name, build_hint);
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    fail(Code::kUnsupported, "{} cannot be loaded: {}", path.string(), ::dlerror());
  const auto build = symbol<const char* (*)()>(library, "erne_backend_build", path);
  if (std::strcmp(build(), backend_build()) != 0) {
    fail(Code::kUnsupported,
         "{} belongs to another build ({}, this program is {}): build both at "
         "once",
         path.string(), build(), backend_build());
  }
  const auto open = symbol<Device* (*)(int, int)>(library, "erne_backend_open", path);
  return std::unique_ptr<Device>(open(index, threads));
}

}  // namespace erne
