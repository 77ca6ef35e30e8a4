#include "negserve/negatives.h"

#include <algorithm>
#include <string>

#include "negserve/errors.h"
#include "negserve/tensors.h"

namespace negserve {
namespace {

void check(bool holds, const char* what) {
  if (!holds) throw ServerFaultError(std::string("a batch has ") + what);
}

// Number of negatives of each positive that replace a slot; an empty tensor is all zeros.
void decode_counts(const v1::Ids& ids, std::size_t size, std::vector<std::int64_t>& counts) {
  counts.assign(size, 0);
  if (ids.data().empty()) return;
  with_width(ids, size, [&](auto width) {
    for (std::size_t i = 0; i < size; ++i) {
      counts[i] = load_id<width>(ids.data().data() + i * width);
    }
  });
}

// Writes k ids of one column: the positive's, and the replaced ones from `begin` to `end`.
template <std::size_t width>
void fill(std::int64_t* column, std::size_t k, std::int64_t positive, const char* replaced,
          std::size_t begin, std::size_t end) {
  std::fill(column, column + begin, positive);
  for (std::size_t j = begin; j < end; ++j) column[j] = load_id<width>(replaced + j * width);
  std::fill(column + end, column + k, positive);
}

}  // namespace

void Negatives::reset(std::size_t new_num_positives, const v1::SamplerConfig& config) {
  num_positives = new_num_positives;
  num_negs_per_pos = config.num_negs_per_pos();
  num_saturated = 0;
  triples.resize(num_positives * num_negs_per_pos);
  mask.clear();
  log_q.resize(config.log_q() ? size() : 0);
}

void expand(const v1::CorruptedBatch& batch, const v1::SamplerConfig& config,
            const Triples& positives, std::size_t begin, Negatives& negatives) {
  const std::size_t n = batch.num_positives();
  const std::size_t k = config.num_negs_per_pos();
  check(begin <= positives.size() && n <= positives.size() - begin, "more positives than expected");
  check(negatives.size() == positives.size() * k, "an unexpected number of negatives");

  // Positions of one chunk share a row.
  const std::uint64_t chunk_size = std::max<std::uint64_t>(config.chunk_size(), 1);
  const std::uint64_t first = batch.position() % chunk_size;
  const std::size_t num_rows = n == 0 ? 0 : (first + n - 1) / chunk_size + 1;

  static thread_local std::vector<std::int64_t> head_counts, relation_counts;
  decode_counts(batch.head_counts(), n, head_counts);
  decode_counts(batch.relation_counts(), n, relation_counts);
  const auto most = static_cast<std::int64_t>(k);
  for (std::size_t i = 0; i < n; ++i) {
    check(0 <= head_counts[i] && head_counts[i] <= most && 0 <= relation_counts[i] &&
              relation_counts[i] <= most - head_counts[i],
          "more heads and relations than negatives");
  }

  with_width(batch.replaced(), num_rows * k, [&](auto width) {
    const char* replaced = batch.replaced().data().data();
    for (std::size_t i = 0; i < n; ++i) {
      const char* row = replaced + (first + i) / chunk_size * k * width;
      const std::size_t out = (begin + i) * k;
      const std::size_t head_end = head_counts[i], relation_end = head_end + relation_counts[i];
      Triples& triples = negatives.triples;
      fill<width>(&triples.heads[out], k, positives.heads[begin + i], row, 0, head_end);
      fill<width>(&triples.relations[out], k, positives.relations[begin + i], row, head_end,
                  relation_end);
      fill<width>(&triples.tails[out], k, positives.tails[begin + i], row, relation_end, k);
    }
  });

  if (!batch.mask().empty()) {
    check(batch.mask().size() == (n * k + 7) / 8, "a mask of unexpected length");
    if (negatives.mask.empty()) negatives.mask.assign(negatives.size(), 1);
    for (std::size_t m = 0; m < n * k; ++m) {
      negatives.mask[begin * k + m] = (static_cast<unsigned char>(batch.mask()[m / 8]) >> (m % 8)) & 1;
    }
  }
  if (config.log_q()) {
    check(batch.log_q().size() == 4 * n * k, "log probabilities of unexpected length");
    for (std::size_t m = 0; m < n * k; ++m) {
      negatives.log_q[begin * k + m] = load_float(batch.log_q().data() + 4 * m);
    }
  }
  negatives.num_saturated += batch.num_saturated();
}

}  // namespace negserve
