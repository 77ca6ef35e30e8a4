// Checks of an answer before it is used: docs/protocol.md, Answers that can't be true.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "negserve/errors.h"
#include "negserve/triples.h"
#include "negserve/v1/sampler.pb.h"

namespace negserve {

// A server's answer can't be true: the server, or a proxy before it, is at fault. The client asks
// another replica, and each replica only a few times. `metadata` has rpc, field, value (received)
// and limit (expected).
struct InvalidAnswerError : TransientError {
  using TransientError::TransientError;
  InvalidAnswerError(const std::string& rpc, const std::string& field, const std::string& value,
                     const std::string& limit);
  const char* name() const override { return "InvalidAnswerError"; }
};

// Sizes of the id spaces.
struct IdSpaces {
  std::uint64_t num_entities = 0, num_relations = 0;
};

// Checks width and length of a tensor.
void check_ids(const std::string& rpc, const std::string& field, const v1::Ids& ids,
               std::uint64_t size);

// Decodes a tensor whose form was checked; an empty tensor is all zeros.
std::vector<std::uint64_t> decode_ids(const v1::Ids& ids, std::size_t size);

// Checks an answer to GetServer.
void check_server(const v1::GetServerResponse& answer);

// Checks an answer to GetDataset.
void check_dataset(const v1::GetDatasetResponse& answer, const std::string& name);

// Checks a server's echo of the configuration; returns the algorithm version in use.
//
// version: version of the first answer; 0 before it
std::uint32_t check_configured(const std::string& rpc, const std::string& fingerprint,
                               const v1::SamplerConfig& answered,
                               const std::string& expected_fingerprint,
                               const v1::SamplerConfig& asked, std::uint32_t version);

// Checks a batch for the expected number of positives, from `begin` on.
void check_batch(const std::string& rpc, const v1::CorruptedBatch& batch,
                 const v1::SamplerConfig& config, const IdSpaces& spaces, const Triples& positives,
                 std::size_t begin, std::size_t num_positives, std::uint64_t position);

// The place of a batch in its epoch.
struct Due {
  // Position within the epoch.
  std::uint64_t begin = 0;
  std::uint64_t size = 0;
  std::uint64_t next_start = 0;
};

// The batches of an epoch from the request's start on: docs/sampling.md, Order of an epoch.
std::uint64_t num_batches(const v1::SampleEpochRequest& request, std::uint64_t num_positives);
Due due_batch(const v1::SampleEpochRequest& request, std::uint64_t num_positives,
              std::uint64_t index);

// Checks the first message of an epoch.
void check_epoch(const v1::EpochConfigured& configured, const v1::SampleEpochRequest& request);

// Checks a batch of an epoch, except for its negatives, before it is decoded.
void check_epoch_batch(const v1::EpochBatch& batch, const v1::SampleEpochRequest& request,
                       const Due& due);

// Checks that positives are in the id spaces.
void check_positives(const Triples& positives, const IdSpaces& spaces);

}  // namespace negserve
