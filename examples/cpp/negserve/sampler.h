// Negatives for positives of the caller's choice, over one stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "negserve/answers.h"
#include "negserve/budget.h"
#include "negserve/connection.h"
#include "negserve/negatives.h"
#include "negserve/triples.h"
#include "negserve/v1/sampler.pb.h"

namespace negserve {

// Draws negatives on a server.
//
// A stream that breaks or stalls is opened again, on the next replica if there are several, as
// long as the connection's patience lasts without progress, and what was not answered is sent
// again: the same positions give the same negatives. Not thread-safe.
class Sampler {
 public:
  // configuration: with the fingerprint that every server has to have
  // dataset: what the server said of it, with its limits
  Sampler(std::shared_ptr<Connection> connection, v1::SampleConfiguration configuration,
          const v1::GetDatasetResponse& dataset);
  ~Sampler();
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;

  // Corrupts positives, any number: many travel in several messages.
  //
  // position: of the first positive in the stream of the seed; the i-th has position + i
  // Throws an Error, typed by what the server said.
  Negatives sample(const Triples& positives, std::uint64_t position);

  // Called with what the server wants a person to know, each kind once; writes to standard error
  // unless it is set.
  std::function<void(const v1::Notice& notice)> on_notice;

 private:
  class Call;

  // Exchanges messages of positives for negatives, and counts what was answered.
  void exchange(const Triples& positives, std::uint64_t position, Negatives& negatives,
                std::size_t& num_answered, Budget& budget);
  void tell(const v1::SampleResponse& response);
  v1::SampleRequest request(const Triples& positives, std::uint64_t position,
                            std::size_t part) const;

  std::shared_ptr<Connection> connection_;
  v1::SampleConfiguration configuration_;
  // Positives of one message.
  std::size_t step_;
  IdSpaces spaces_;
  // Of the sampling function, as the first stream said; 0 before it.
  std::uint32_t algorithm_version_ = 0;
  // Kinds of notices that were told.
  std::set<int> told_;
  std::unique_ptr<Call> call_;
};

}  // namespace negserve
