// Rebuilds whole triples from the replaced ids and slots that a server sends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "negserve/triples.h"
#include "negserve/v1/sampler.pb.h"

namespace negserve {

// The negatives of n positives, k each. Negative j of positive i is at i * k + j of all columns.
struct Negatives {
  std::size_t num_positives = 0;
  std::size_t num_negs_per_pos = 0;
  // n * k whole triples, each of which differs from its positive in one slot.
  Triples triples;
  // n * k flags, 1 where the negative is valid; empty if all are valid.
  std::vector<std::uint8_t> mask;
  // n * k natural logarithms of the negatives' probabilities; empty unless requested.
  std::vector<float> log_q;
  // Number of positives with fewer legal values than they need.
  std::uint64_t num_saturated = 0;

  std::size_t size() const { return triples.size(); }
  bool is_valid(std::size_t index) const { return mask.empty() || mask[index] != 0; }
  // Makes room for the negatives of some number of positives.
  void reset(std::size_t num_positives, const v1::SamplerConfig& config);
};

// Rebuilds the negatives of the positives from `begin` on, as many as the batch has, in place.
//
// config: configuration that the batch was drawn with
// negatives: reset for all positives
// Throws ServerFaultError if the batch does not fit the configuration and the positives.
void expand(const v1::CorruptedBatch& batch, const v1::SamplerConfig& config,
            const Triples& positives, std::size_t begin, Negatives& negatives);

}  // namespace negserve
