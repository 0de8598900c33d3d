#include "engine/draw_list.h"

#include "base/rng.h"

namespace erne {

void DrawList::clear() {
  draws_.clear();
  edits_.clear();
}

void DrawList::add(int32_t row, const SampleArgs& args) {
  const SamplingParams& p = args.params;
  Draw draw;
  draw.row = row;
  if (!is_greedy(p)) {
    draw.inverse_temperature = static_cast<float>(1.0 / p.temperature);
    draw.uniform = philox_uniform(args.seed, args.choice, args.position);
  }
  draw.top_k = p.top_k > 0 ? p.top_k : 0;
  draw.top_p = p.top_p;
  draw.min_p = static_cast<float>(p.min_p);
  draw.repetition = static_cast<float>(p.repetition_penalty);
  draw.edits = num_edits();
  // Ids of the prompt that the output has too come with the output's.
  for (const int32_t id : args.counts.prompt()) {
    if (!args.counts.in_output(id)) edits_.push_back({id, 0});
  }
  for (const TokenCounts::Entry& seen : args.counts.output()) {
    edits_.push_back(
        {seen.id, static_cast<float>(p.frequency_penalty * seen.in_output + p.presence_penalty)});
  }
  draw.penalties_end = num_edits();
  for (const int32_t id : args.masked_ids) edits_.push_back({id, 0});
  draw.masked_end = num_edits();
  for (const auto& [id, bias] : p.logit_bias) edits_.push_back({id, bias});
  draw.edits_end = num_edits();
  draws_.push_back(draw);
}

}  // namespace erne
