// Tier 0 of sample.h: a block a draw. Nothing is sorted: the k best and the nucleus are what lies
// above a threshold, which is found digit by digit (radix selection over 8 bits) from counts or
// masses in integers, so no order of threads shows. Weights are computed anew in every pass, since
// a row of 100 000 logits stays in the second-level cache.
//
// The draw itself takes the steps of engine/sampler.cc: the same weights bit by bit, sums of blocks
// of 64 ids, then one thread that walks the blocks. Only the edge of the nucleus is found in other
// arithmetic, masses in units of 2^-45 of the best id's.
#include <bit>

#include "gpu/kernels/sample.h"
#include "gpu/rt/gpu.h"

namespace erne::gpu {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / GPU_WARP;
constexpr int kBlock = 64;  // ids
constexpr int kLanes = 8;   // that sum a block
constexpr int kDigits = 256;
constexpr double kMassUnit = 0x1p45;  // 2^18 weights of at most 1 fit 63 bits

struct Scratch {
  double block_sum[kMostDrawnVocab / kBlock];
  uint64_t bins[kDigits];
  uint64_t best[kThreads];  // of each thread
  uint64_t warp_best[kWarps];
  uint64_t threshold, need;
  int found;
};

// Orders like the float; NaN above everything.
GPU_DEVICE uint32_t order_key(float value) {
  const auto bits = std::bit_cast<uint32_t>(value + 0.0F);  // -0 equals 0
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return 0xFFFFFFFFU;
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
constexpr uint32_t kKeyOfInf = 0xFF800000U;
constexpr uint32_t kKeyOfMinusInf = 0x007FFFFFU;

// The better id has the larger number: by value, then the lower id.
GPU_DEVICE uint64_t rank_key(uint32_t value, int64_t id) {
  return uint64_t{value} << 32 | (0xFFFFFFFFU - static_cast<uint32_t>(id));
}
GPU_DEVICE int32_t id_of(uint64_t key) {
  return static_cast<int32_t>(0xFFFFFFFFU - static_cast<uint32_t>(key));
}

GPU_DEVICE uint64_t mass_of(float weight) {
  return static_cast<uint64_t>(static_cast<double>(weight) * kMassUnit);
}

// What is left of a row: ids below a threshold weigh nothing.
struct Row {
  float* logits;
  int64_t vocab;
  float most, inverse_temperature;
  uint64_t least_logit;  // rank keys
  uint64_t least_weight;
  float min_weight;
};

GPU_DEVICE float weight_at(const Row& row, int64_t id) {
  const float logit = row.logits[id];
  if (rank_key(order_key(logit), id) < row.least_logit) return 0;
  const float weight = exp_negative((logit - row.most) * row.inverse_temperature);
  const bool out =
      rank_key(std::bit_cast<uint32_t>(weight), id) < row.least_weight || weight < row.min_weight;
  return out ? 0 : weight;
}

// The best id's key, in all threads.
GPU_DEVICE uint64_t best_key(const Row& row, Scratch& s) {
  uint64_t best = 0;
  for (int64_t i = thread_index(); i < row.vocab; i += kThreads) {
    const uint64_t key = rank_key(order_key(row.logits[i]), i);
    best = key > best ? key : best;
  }
  s.best[thread_index()] = best;
  best = warp_max(best);
  if (lane_index() == 0) s.warp_best[warp_index()] = best;
  block_sync();
  for (int w = 0; w < kWarps; ++w) best = s.warp_best[w] > best ? s.warp_best[w] : best;
  block_sync();
  return best;
}

GPU_DEVICE bool has_distribution(uint64_t best) {
  const auto value = static_cast<uint32_t>(best >> 32);
  return value < kKeyOfInf && value > kKeyOfMinusInf;
}

GPU_DEVICE void edit(const Row& row, const Draw& draw, const LogitEdit* edits) {
  for (int32_t i = draw.edits + thread_index(); i < draw.penalties_end; i += kThreads) {
    float& logit = row.logits[edits[i].id];
    logit = logit > 0 ? logit / draw.repetition : logit * draw.repetition;
    logit -= edits[i].value;
  }
  block_sync();
  for (int32_t i = draw.penalties_end + thread_index(); i < draw.masked_end; i += kThreads)
    row.logits[edits[i].id] = -std::bit_cast<float>(0x7F800000U);
  block_sync();
  for (int32_t i = draw.masked_end; i < draw.edits_end; ++i) {  // an id may come twice
    if (edits[i].id % kThreads == thread_index()) row.logits[edits[i].id] += edits[i].value;
  }
  block_sync();
}

// A lower bound of the k-th best key for k <= kThreads: the k-th best of the threads' own bests,
// which are of different ids. Of little use but to leave most ids out of the counts.
GPU_DEVICE uint64_t bound_of(int64_t k, Scratch& s) {
  if (thread_index() == 0) s.threshold = 0;
  block_sync();
  const uint64_t mine = s.best[thread_index()];
  int64_t above = 0;
  for (int t = 0; t < kThreads; ++t) above += s.best[t] > mine ? 1 : 0;
  if (mine > 0 && above == k - 1) s.threshold = mine;
  block_sync();
  const uint64_t bound = s.threshold;
  block_sync();
  return bound;
}

// The largest threshold so that the amounts of all keys from it on reach `need`, or `share` of all
// amounts where share > 0. key_of(id); amount_of(id, key), of which keys at 0 amount do not count;
// only_one(key, amount): whether that amount of a whole value is that of a single id.
template <typename Key, typename Amount, typename Single>
GPU_DEVICE uint64_t select(int64_t vocab, Scratch& s, uint64_t need, double share, Key key_of,
                           Amount amount_of, Single single) {
  uint64_t prefix = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    if (thread_index() < kDigits) s.bins[thread_index()] = 0;
    block_sync();
    for (int64_t i = thread_index(); i < vocab; i += kThreads) {
      const uint64_t key = key_of(i);
      if (shift < 56 && (key >> (shift + 8)) != (prefix >> (shift + 8))) continue;
      const uint64_t amount = amount_of(i, key);
      if (amount > 0) shared_add(&s.bins[(key >> shift) % kDigits], amount);
    }
    block_sync();
    if (thread_index() < kDigits) {
      const int digit = thread_index();
      uint64_t above = 0;
      uint64_t total = 0;
      for (int d = 0; d < kDigits; ++d) {
        total += s.bins[d];
        above += d > digit ? s.bins[d] : 0;
      }
      if (shift == 56 && share > 0) {
        const double part = share * static_cast<double>(total);
        need = static_cast<uint64_t>(part);
        if (static_cast<double>(need) < part) ++need;
        if (need < 1) need = 1;
      }
      const uint64_t here = s.bins[digit];
      if (above < need && need <= above + here) {
        const uint64_t now = prefix | static_cast<uint64_t>(digit) << shift;
        s.threshold = now;
        s.need = need - above;
        s.found = need - above == here || single(shift, now, here) ? 1 : 0;
      }
    }
    block_sync();
    prefix = s.threshold;
    need = s.need;
    const bool found = s.found != 0;
    block_sync();
    if (found) return prefix;
  }
  return prefix;
}

GPU_DEVICE uint64_t top_k_threshold(const Row& row, int64_t k, Scratch& s) {
  const uint64_t bound = k <= kThreads ? bound_of(k, s) : 0;
  const uint64_t threshold = select(
      row.vocab, s, static_cast<uint64_t>(k), 0,
      [&](int64_t i) { return rank_key(order_key(row.logits[i]), i); },
      [&](int64_t, uint64_t key) { return key >= bound ? uint64_t{1} : uint64_t{0}; },
      [](int, uint64_t, uint64_t) { return false; });
  return threshold > bound ? threshold : bound;  // which may share the last digits looked at
}

GPU_DEVICE uint64_t nucleus_threshold(const Row& row, double top_p, Scratch& s) {
  return select(
      row.vocab, s, 0, top_p,
      [&](int64_t i) { return rank_key(std::bit_cast<uint32_t>(weight_at(row, i)), i); },
      [&](int64_t, uint64_t key) {
        return mass_of(std::bit_cast<float>(static_cast<uint32_t>(key >> 32)));
      },
      [](int shift, uint64_t key, uint64_t amount) {
        return shift == 32 &&
               amount == mass_of(std::bit_cast<float>(static_cast<uint32_t>(key >> 32)));
      });
}

// Sums as engine/logit_rows.cc has them (lanes in float), or as it adds candidates (in double).
template <typename Sum>
GPU_DEVICE void sum_blocks(const Row& row, Scratch& s) {
  constexpr int kGroups = kThreads / kLanes;
  const int lane = thread_index() % kLanes;
  const int64_t blocks = (row.vocab + kBlock - 1) / kBlock;
  for (int64_t first = 0; first < blocks; first += kGroups) {
    const int64_t block = first + thread_index() / kLanes;
    const int64_t begin = block * kBlock;
    const int64_t end = begin + kBlock < row.vocab ? begin + kBlock : row.vocab;
    const int64_t whole = begin < end ? begin + (end - begin) / kLanes * kLanes : begin;
    Sum part = 0;
    for (int64_t i = begin + lane; i < whole; i += kLanes)
      part += static_cast<Sum>(weight_at(row, i));
    double sum = static_cast<double>(part);
    for (int mask = 1; mask < kLanes; mask *= 2) sum += warp_xor(sum, mask);
    for (int64_t i = whole; i < end; ++i) sum += static_cast<double>(weight_at(row, i));
    if (lane == 0 && block < blocks) s.block_sum[block] = sum;
  }
  block_sync();
}

GPU_DEVICE int32_t walk(const Row& row, double uniform, const Scratch& s) {
  int64_t last_block = (row.vocab + kBlock - 1) / kBlock - 1;
  double total = 0;
  for (int64_t b = 0; b <= last_block; ++b) total += s.block_sum[b];
  while (last_block > 0 && s.block_sum[last_block] <= 0) --last_block;
  double rest = uniform * total;
  int64_t block = 0;
  while (block < last_block && rest >= s.block_sum[block]) rest -= s.block_sum[block++];
  int64_t last = block * kBlock;
  const int64_t end = last + kBlock < row.vocab ? last + kBlock : row.vocab;
  for (int64_t i = last; i < end; ++i) {
    const float weight = weight_at(row, i);
    if (weight <= 0) continue;
    last = i;
    rest -= static_cast<double>(weight);
    if (rest < 0) break;
  }
  return static_cast<int32_t>(last);
}

GPU_DEVICE int32_t draw_from(Row& row, const Draw& draw, const LogitEdit* edits, Scratch& s) {
  uint64_t best = best_key(row, s);
  if (!has_distribution(best)) return -1;
  if (draw.edits < draw.edits_end) {  // a mask must not hide what the model got wrong
    edit(row, draw, edits);
    best = best_key(row, s);
    if (!has_distribution(best)) return -1;
  }
  if (draw.inverse_temperature <= 0 || draw.top_k == 1) return id_of(best);
  row.most = row.logits[id_of(best)];
  row.inverse_temperature = draw.inverse_temperature;
  const bool few = draw.top_k > 0 && draw.top_k < row.vocab;
  if (few) row.least_logit = top_k_threshold(row, draw.top_k, s);
  if (draw.top_p < 1) row.least_weight = nucleus_threshold(row, draw.top_p, s);
  row.min_weight = draw.min_p;  // the best id weighs exactly 1
  if (few) {
    sum_blocks<double>(row, s);
  } else {
    sum_blocks<float>(row, s);
  }
  return thread_index() == 0 ? walk(row, draw.uniform, s) : -1;
}

GPU_KERNEL sample_kernel(SampleCall call) {
  GPU_SHARED Scratch s;
  const Draw draw = call.draws[block_x()];
  Row row{call.logits + draw.row * call.vocab, call.vocab, 0, 0, 0, 0, 0};
  const int32_t id = draw_from(row, draw, call.edits, s);
  if (thread_index() == 0) call.ids[block_x()] = id;
}

}  // namespace

void run_sample(Stream stream, const SampleCall& call) {
  launch(stream, sample_kernel, Grid{call.count, 1, 1}, kThreads, call);
}

}  // namespace erne::gpu
