// One function a verb: each adds its subcommand (help text with examples included) to the program;
// its callback does the work and throws Error, which main turns into a message and an exit code.
#pragma once

namespace CLI {
class App;
}

namespace erne::cli {

void add_serve(CLI::App& app);
void add_chat(CLI::App& app);
void add_generate(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_inspect(CLI::App& app);
void add_verify(CLI::App& app);
void add_convert(CLI::App& app);
void add_quantize(CLI::App& app);
void add_completion(CLI::App& app);

/// `erne eval` and the evaluations below it.
void add_eval(CLI::App& app);

/// `erne bench` and the benches below it.
void add_bench(CLI::App& app);
void add_bench_serving(CLI::App& bench);
void add_bench_offline(CLI::App& bench);
void add_bench_one_batch(CLI::App& bench);
void add_bench_roofline(CLI::App& bench);

}  // namespace erne::cli
