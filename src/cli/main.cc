// The program: one verb per task. Errors end here as one line on stderr and the exit code of
// base/error.h.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>

#include "base/error.h"
#include "cli/arguments.h"
#include "cli/verbs.h"

namespace {

int run(int argc, char** argv) {
  CLI::App app{"erne: ERNIE 4.5 models, served, measured, compressed and trained by one program",
               "erne"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "erne " ERNE_VERSION);
  app.footer(
      "Examples:\n"
      "  erne serve --model-path models/default\n"
      "  erne chat --model-path models/default\n"
      "  erne generate --model-path models/default --prompt \"The capital of France is\"\n"
      "`erne VERB --help` explains a verb.");
  erne::cli::add_serve(app);
  erne::cli::add_chat(app);
  erne::cli::add_generate(app);
  erne::cli::add_tokenize(app);
  erne::cli::add_inspect(app);
  erne::cli::add_verify(app);
  erne::cli::add_eval(app);
  erne::cli::add_convert(app);
  erne::cli::add_quantize(app);
  erne::cli::add_bench(app);
  erne::cli::add_completion(app);
  std::vector<std::string> arguments = erne::cli::expand_arguments(app, argc, argv);
  std::ranges::reverse(arguments);  // as App::parse takes them
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::RuntimeError& e) {
    return e.get_exit_code();  // a verb's own verdict, already told
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return run(argc, argv);
  } catch (const erne::Error& e) {
    std::fprintf(stderr, "erne: %s\n", e.what());
    return erne::exit_code(e.code());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "erne: internal error: %s\n", e.what());
    return 1;
  }
}
