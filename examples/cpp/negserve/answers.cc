#include "negserve/answers.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "negserve/tensors.h"

namespace negserve {
namespace {

constexpr std::uint64_t kMostIds = std::uint64_t{1} << 32;
// Logarithms of probabilities are at most 0, except for the rounding of their sum.
constexpr float kLargestLogQ = 1e-6F;

template <class Value>
void check(bool holds, const std::string& rpc, const std::string& field, const Value& value,
           const std::string& limit) {
  if (holds) return;
  if constexpr (std::is_convertible_v<Value, std::string>) {
    throw InvalidAnswerError(rpc, field, value, limit);
  } else {
    throw InvalidAnswerError(rpc, field, std::to_string(value), limit);
  }
}

template <class Value>
void check_equal(const std::string& rpc, const std::string& field, Value value, Value due) {
  check(value == due, rpc, field, value, std::to_string(due));
}

bool is_fingerprint(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

template <class Values>
void sort_values(Values* values) {
  std::set<int> distinct(values->begin(), values->end());
  values->Clear();
  for (int value : distinct) values->Add(value);
}

// Returns a configuration as servers echo it.
v1::SamplerConfig filled_in(v1::SamplerConfig config) {
  if (config.corruption_scheme().empty()) {
    config.add_corruption_scheme(v1::SLOT_HEAD);
    config.add_corruption_scheme(v1::SLOT_TAIL);
  }
  sort_values(config.mutable_corruption_scheme());
  sort_values(config.mutable_filter_splits());
  if (config.filter_mode() == v1::FILTER_MODE_UNSPECIFIED) {
    config.set_filter_mode(v1::FILTER_MODE_EXACT);
  }
  if (config.chunk_size() == 0) config.set_chunk_size(1);
  bool is_by_degree = config.kind() == v1::SAMPLER_KIND_DEGREE;
  for (const v1::MixturePart& part : config.mixture()) {
    is_by_degree |= part.kind() == v1::SAMPLER_KIND_DEGREE;
  }
  if (!is_by_degree) {
    config.clear_alpha();
  } else if (!config.has_alpha()) {
    config.set_alpha(0.75);
  }
  config.clear_candidates();
  return config;
}

}  // namespace

void check_ids(const std::string& rpc, const std::string& field, const v1::Ids& ids,
               std::uint64_t size) {
  const std::uint32_t width = ids.width();
  const bool is_legal = width == 1 || width == 2 || width == 4 || width == 8;
  check(is_legal || (width == 0 && ids.data().empty()), rpc, field + ".width", width,
        "1, 2, 4 or 8");
  check(ids.data().size() == size * std::max(width, 1U), rpc, field + ".data, bytes",
        ids.data().size(), std::to_string(size) + " ids of width " + std::to_string(width));
}

std::vector<std::uint64_t> decode_ids(const v1::Ids& ids, std::size_t size) {
  std::vector<std::uint64_t> result(size);
  if (ids.data().empty()) return result;
  with_width(ids, size, [&](auto width) {
    for (std::size_t i = 0; i < size; ++i) {
      result[i] = static_cast<std::uint64_t>(load_id<width>(ids.data().data() + i * width));
    }
  });
  return result;
}

InvalidAnswerError::InvalidAnswerError(const std::string& rpc, const std::string& field,
                                       const std::string& value, const std::string& limit)
    : TransientError("the answer to " + rpc + " can't be true: " + field + " is " + value +
                       ", expected " + limit,
                   "", {{"rpc", rpc}, {"field", field}, {"value", value}, {"limit", limit}}) {}

void check_server(const v1::GetServerResponse& answer) {
  const std::string rpc = "GetServer";
  check(!answer.version().empty(), rpc, "version", "nothing", "MAJOR.MINOR.PATCH");
  check(!answer.algorithm_versions().empty(), rpc, "algorithm_versions", "none", "at least one");
  std::uint32_t before = 0;
  for (const std::uint32_t version : answer.algorithm_versions()) {
    check(version > before, rpc, "algorithm_versions", version, "ascending, from 1 on");
    before = version;
  }
  const v1::Limits& limits = answer.limits();
  for (const auto& [field, limit] :
       {std::pair("limits.max_request_bytes", limits.max_request_bytes()),
        std::pair("limits.max_unanswered_messages",
                  std::uint64_t{limits.max_unanswered_messages()}),
        std::pair("limits.max_unanswered_bytes", limits.max_unanswered_bytes())}) {
    check(limit >= 1, rpc, field, limit, "at least 1");
  }
}

void check_dataset(const v1::GetDatasetResponse& answer, const std::string& name) {
  const std::string rpc = "GetDataset";
  const v1::Dataset& dataset = answer.dataset();
  check(dataset.name() == name, rpc, "dataset.name", dataset.name(), name);
  check(is_fingerprint(dataset.fingerprint()), rpc, "dataset.fingerprint", dataset.fingerprint(),
        "64 hexadecimal digits");
  for (const auto& [field, size] : {std::pair("dataset.num_entities", dataset.num_entities()),
                                    std::pair("dataset.num_relations", dataset.num_relations())}) {
    check(size >= 1 && size <= kMostIds, rpc, field, size, "1 to 2^32");
  }
  const v1::Limits& limits = answer.limits();
  for (const auto& [field, limit] :
       {std::pair("limits.max_negatives_per_positive", limits.max_negatives_per_positive()),
        std::pair("limits.max_negatives_per_message", limits.max_negatives_per_message()),
        std::pair("limits.max_triples_per_message", limits.max_triples_per_message())}) {
    check(limit >= 1, rpc, field, limit, "at least 1");
  }
}

std::uint32_t check_configured(const std::string& rpc, const std::string& fingerprint,
                               const v1::SamplerConfig& answered,
                               const std::string& expected_fingerprint,
                               const v1::SamplerConfig& asked, std::uint32_t version) {
  check(expected_fingerprint.empty() ? is_fingerprint(fingerprint)
                                     : fingerprint == expected_fingerprint,
        rpc, "configured.fingerprint", fingerprint, expected_fingerprint);
  v1::SamplerConfig due = filled_in(asked);
  if (due.algorithm_version() == 0) due.set_algorithm_version(version);
  if (due.algorithm_version() == 0) {
    check(answered.algorithm_version() > 0, rpc, "configured.sampler.algorithm_version", 0,
          "the version in use");
    due.set_algorithm_version(answered.algorithm_version());
  }
  v1::SamplerConfig came = answered;
  came.DiscardUnknownFields();
  std::string differences;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&differences);
  if (!differencer.Compare(due, came)) {
    throw InvalidAnswerError(rpc, "configured.sampler", differences, "as it was sent");
  }
  return due.algorithm_version();
}

void check_batch(const std::string& rpc, const v1::CorruptedBatch& batch,
                 const v1::SamplerConfig& config, const IdSpaces& spaces, const Triples& positives,
                 std::size_t begin, std::size_t num_positives, std::uint64_t position) {
  check_equal(rpc, "batch.position", batch.position(), position);
  check_equal<std::uint64_t>(rpc, "batch.num_positives", batch.num_positives(), num_positives);
  const std::uint64_t n = num_positives, k = config.num_negs_per_pos();
  check(batch.num_saturated() <= n, rpc, "batch.num_saturated", batch.num_saturated(),
        "at most " + std::to_string(n));
  const std::uint64_t chunk_size = std::max<std::uint64_t>(config.chunk_size(), 1);
  const std::uint64_t first = position % chunk_size;
  const std::uint64_t num_rows = n == 0 ? 0 : (first + n - 1) / chunk_size + 1;
  check_ids(rpc, "batch.replaced", batch.replaced(), num_rows * k);
  check_ids(rpc, "batch.head_counts", batch.head_counts(),
            batch.head_counts().data().empty() ? 0 : n);
  check_ids(rpc, "batch.relation_counts", batch.relation_counts(),
            batch.relation_counts().data().empty() ? 0 : n);
  const bool is_masked = config.filter_splits_size() > 0 || config.distinct() || chunk_size > 1;
  const std::string& mask = batch.mask();
  check(mask.empty() || (is_masked && mask.size() == (n * k + 7) / 8), rpc, "batch.mask, bytes",
        mask.size(), std::to_string(n * k) + " flags, or none");
  check_equal<std::uint64_t>(rpc, "batch.log_q, bytes", batch.log_q().size(),
                             config.log_q() ? 4 * n * k : 0);
  for (std::size_t at = 0; at < batch.log_q().size(); at += 4) {
    const float log_q = load_float(batch.log_q().data() + at);
    check(std::isfinite(log_q) && log_q <= kLargestLogQ, rpc, "batch.log_q", log_q,
          "finite, at most 0");
  }

  bool is_in_scheme[3] = {config.corruption_scheme().empty(), false,
                          config.corruption_scheme().empty()};
  for (int slot : config.corruption_scheme()) is_in_scheme[slot - 1] = true;
  const std::vector<std::int64_t>* columns[3] = {&positives.heads, &positives.relations,
                                                 &positives.tails};
  const std::vector<std::uint64_t> values = decode_ids(batch.replaced(), num_rows * k);
  const std::vector<std::uint64_t> heads = decode_ids(batch.head_counts(), n);
  const std::vector<std::uint64_t> relations = decode_ids(batch.relation_counts(), n);
  for (std::uint64_t i = 0; i < n; ++i) {
    check(heads[i] <= (is_in_scheme[0] ? k : 0), rpc, "batch.head_counts", heads[i],
          "what the scheme allows");
    check(relations[i] <= (is_in_scheme[1] ? k : 0), rpc, "batch.relation_counts", relations[i],
          "what the scheme allows");
    const std::uint64_t sum = heads[i] + relations[i];
    check(is_in_scheme[2] ? sum <= k : sum == k, rpc, "batch.head_counts + relation_counts", sum,
          std::to_string(k));
    const std::uint64_t* row = values.data() + (first + i) / chunk_size * k;
    for (std::uint64_t j = 0; j < k; ++j) {
      const int slot = j < heads[i] ? 0 : j < sum ? 1 : 2;
      const std::uint64_t size = slot == 1 ? spaces.num_relations : spaces.num_entities;
      if (row[j] >= size) {
        check(false, rpc, "batch.replaced", row[j], "below " + std::to_string(size));
      }
      if (row[j] == static_cast<std::uint64_t>((*columns[slot])[begin + i])) {
        const std::uint64_t m = i * k + j;
        const bool is_invalid =
            !mask.empty() && !(static_cast<unsigned char>(mask[m / 8]) >> (m % 8) & 1);
        check(chunk_size > 1 && is_invalid, rpc, "batch.replaced", row[j],
              "another id than the positive's");
      }
    }
  }
}

std::uint64_t num_batches(const v1::SampleEpochRequest& request, std::uint64_t num_positives) {
  const std::uint64_t step =
      std::uint64_t{request.batch_size()} * std::max(request.world_size(), 1U);
  const std::uint64_t left = num_positives - request.start();
  const std::uint64_t of_rank =
      left / step + (request.tail() != v1::TAIL_RULE_DROP && left % step > 0 ? 1 : 0);
  if (of_rank <= request.worker()) return 0;
  const std::uint64_t workers = std::max(request.num_workers(), 1U);
  return (of_rank - request.worker() + workers - 1) / workers;
}

Due due_batch(const v1::SampleEpochRequest& request, std::uint64_t num_positives,
              std::uint64_t index) {
  const std::uint64_t world_size = std::max(request.world_size(), 1U);
  const std::uint64_t step = request.batch_size() * world_size;
  const std::uint64_t first =
      request.start() + (request.worker() + index * std::max(request.num_workers(), 1U)) * step;
  const std::uint64_t next_start = first + step;
  if (request.tail() == v1::TAIL_RULE_WRAP || next_start <= num_positives) {
    return {first + request.rank() * std::uint64_t{request.batch_size()}, request.batch_size(),
            std::min(next_start, num_positives)};
  }
  const std::uint64_t left = num_positives - first;
  const std::uint64_t begin = left * request.rank() / world_size;
  return {first + begin, left * (request.rank() + std::uint64_t{1}) / world_size - begin,
          num_positives};
}

void check_epoch(const v1::EpochConfigured& configured, const v1::SampleEpochRequest& request) {
  const std::string rpc = "SampleEpoch";
  check(configured.num_positives() >= request.start(), rpc, "configured.num_positives",
        configured.num_positives(), "at least " + std::to_string(request.start()));
  check_equal(rpc, "configured.num_batches", configured.num_batches(),
              num_batches(request, configured.num_positives()));
}

void check_epoch_batch(const v1::EpochBatch& batch, const v1::SampleEpochRequest& request,
                       const Due& due) {
  const std::string rpc = "SampleEpoch";
  check_equal(rpc, "batches.next_start", batch.next_start(), due.next_start);
  check_ids(rpc, "batches.positives.heads", batch.positives().heads(), due.size);
  check_ids(rpc, "batches.positives.relations", batch.positives().relations(), due.size);
  check_ids(rpc, "batches.positives.tails", batch.positives().tails(), due.size);
  check_equal<std::uint64_t>(rpc, "batches.weights, bytes", batch.weights().size(),
                             request.weights() ? 4 * due.size : 0);
}

void check_positives(const Triples& positives, const IdSpaces& spaces) {
  for (std::size_t i = 0; i < positives.size(); ++i) {
    for (const auto& [field, id, size] :
         {std::tuple("heads", positives.heads[i], spaces.num_entities),
          std::tuple("relations", positives.relations[i], spaces.num_relations),
          std::tuple("tails", positives.tails[i], spaces.num_entities)}) {
      if (static_cast<std::uint64_t>(id) >= size) {
        check(false, "SampleEpoch", std::string("batches.positives.") + field, id,
              "below " + std::to_string(size));
      }
    }
  }
}

}  // namespace negserve
