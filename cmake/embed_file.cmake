# Run by erne_embed: writes INPUT's bytes as a C++ array to OUTPUT.
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," array "${bytes}")
# A line holds 14 bytes: each takes seven characters.
string(REGEX REPLACE "(..................................................................................................)" "\\1\n" array "${array}")
file(WRITE ${OUTPUT} "// Made from ${INPUT} by cmake/embed_file.cmake.
#include <string_view>
namespace erne {
extern const std::string_view ${SYMBOL};
static constexpr char kBytes[] = {
${array}'\\0'};
constinit const std::string_view ${SYMBOL}(kBytes, sizeof(kBytes) - 1);
}
")
