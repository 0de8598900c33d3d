// Does a template take message content as a list of parts, or only as a string?
#pragma once

#include "chat/jinja/ast.h"

namespace erne::jinja {

/// True when the template loops over some message's content: then lists of parts go to it as they
/// are. Otherwise their texts are joined first, as other servers do for such templates.
bool iterates_content(const Body& body);

}  // namespace erne::jinja
