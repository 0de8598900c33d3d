// Links the library and continues a text: generate MODEL_FOLDER "Once upon a time" [TOKENS]
#include <erne/erne.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s MODEL_FOLDER PROMPT [TOKENS]\n", argv[0]);
    return 2;
  }
  try {
    erne::EngineOptions options;
    options.model_path = argv[1];
    erne::Engine engine(options);

    erne::Request request;
    request.prompt_ids = engine.tokenizer().encode_plain(argv[2]);
    request.sampling.temperature = 0;
    request.max_new_tokens = argc > 3 ? std::atoi(argv[3]) : 64;

    const auto stream = std::make_shared<erne::TokenStream>();
    engine.submit(request, stream);
    while (const auto output = stream->next()) {
      std::fputs(output->text.c_str(), stdout);
      std::fflush(stdout);
      if (output->finish) std::printf("\n(%d tokens)\n", output->usage.completion_tokens);
    }
  } catch (const erne::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return erne::exit_code(e.code());
  }
}
