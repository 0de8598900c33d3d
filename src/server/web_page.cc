#include "server/web_page.h"

namespace erne::server {

std::string_view web_page() {
  return "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>erne</title>"
         "<p>erne serves the OpenAI API here: POST /v1/chat/completions</p></html>\n";
}

}  // namespace erne::server
