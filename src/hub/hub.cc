#include "hub/hub.h"

#include "base/error.h"

namespace erne {

namespace fs = std::filesystem;

fs::path resolve_model(const std::string& model, const HubOptions&) {
  if (model.empty()) fail(Code::kInvalidArgument, "the model path is empty");
  if (fs::is_directory(model)) return model;
  fail(Code::kNotFound, "there is no folder {}", model);
}

}  // namespace erne
