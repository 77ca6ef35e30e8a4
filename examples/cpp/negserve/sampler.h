// Negatives for the caller's positives, over one stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "negserve/answers.h"
#include "negserve/retry_budget.h"
#include "negserve/connection.h"
#include "negserve/negatives.h"
#include "negserve/triples.h"
#include "negserve/v1/sampler.pb.h"

namespace negserve {

// Draws negatives on a server.
//
// A stream that breaks or stalls is opened again, on the next replica if there are several, as
// long as the connection's patience lasts without progress, and messages without an answer are
// sent again: the same positions give the same negatives. Not thread-safe.
class Sampler {
 public:
  // configuration: with the fingerprint that every server must have
  // dataset: the server's description of it, with its limits
  Sampler(std::shared_ptr<Connection> connection, v1::SampleConfiguration configuration,
          const v1::GetDatasetResponse& dataset);
  ~Sampler();
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;

  // Corrupts any number of positives, in several messages if there are many.
  //
  // position: position of the first positive in the seed's stream; the i-th has position + i
  // Throws an Error by the server's reason.
  Negatives sample(const Triples& positives, std::uint64_t position);

  // Called with each kind of notice of the server once; by default it writes to standard error.
  std::function<void(const v1::Notice& notice)> on_notice;

 private:
  class Call;

  // Exchanges messages of positives for negatives, and counts the answered ones.
  void exchange(const Triples& positives, std::uint64_t position, Negatives& negatives,
                std::size_t& num_answered, RetryBudget& budget);
  void tell(const v1::SampleResponse& response);
  v1::SampleRequest request(const Triples& positives, std::uint64_t position,
                            std::size_t part) const;

  std::shared_ptr<Connection> connection_;
  v1::SampleConfiguration configuration_;
  // Positives of one message.
  std::size_t step_;
  IdSpaces spaces_;
  // Version of the sampling function, from the first stream; 0 before it.
  std::uint32_t algorithm_version_ = 0;
  // Kinds of notices that were reported.
  std::set<int> told_;
  std::unique_ptr<Call> call_;
};

}  // namespace negserve
