// An epoch from a server, batch by batch, through lost servers, restarts and failovers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "negserve/answers.h"
#include "negserve/retry_budget.h"
#include "negserve/connection.h"
#include "negserve/negatives.h"
#include "negserve/triples.h"
#include "negserve/v1/sampler.pb.h"

namespace negserve {

// One batch of one rank: m positives (m may be 0 with tail rule `short`) and their negatives.
struct EpochBatch {
  // Position within the epoch at which the next global batch begins.
  std::uint64_t next_start = 0;
  Triples positives;
  Negatives negatives;
  // m subsampling weights; empty unless requested.
  std::vector<float> weights;
};

// The rest of one epoch.
//
// A stream that breaks or stalls, and a server that is killed, drained or restarted, cost a delay,
// not a batch: reading continues at `next_start`, on the next replica if there are several, as long
// as the connection's patience lasts without progress. Not thread-safe.
class EpochStream {
 public:
  // request: with the fingerprint that every server must have
  // spaces: the dataset's id spaces
  EpochStream(std::shared_ptr<Connection> connection, v1::SampleEpochRequest request,
              const IdSpaces& spaces);
  ~EpochStream();
  EpochStream(EpochStream&&) noexcept;
  EpochStream& operator=(EpochStream&&) noexcept;

  // Reads the next batch into `batch`, reusing its memory. Returns false at the epoch's end.
  //
  // Throws a TransientError if no server answered within the connection's patience, else an Error
  // by the server's reason.
  bool next(EpochBatch& batch);

  // Where to resume after the last batch: with the epoch's number, the whole state of a trainer.
  std::uint64_t next_start() const { return request_.start(); }

 private:
  class Call;

  // Waits for batches, over the open call or a new one. Returns false at the epoch's end.
  bool receive();
  // Reads the first message of a call.
  void configure();
  // Checks all batches of the last message.
  void check_message() const;
  // Decodes the next batch of the last message.
  void take(EpochBatch& batch);

  std::shared_ptr<Connection> connection_;
  v1::SampleEpochRequest request_;
  RetryBudget budget_;
  std::unique_ptr<Call> call_;
  // The last message, and how many of its batches were taken.
  v1::SampleEpochResponse message_;
  int num_taken_ = 0;
  // Number of batches that the open call has not sent yet.
  std::uint64_t num_left_ = 0;
  // Number of positives of the whole epoch.
  std::uint64_t num_positives_ = 0;
  IdSpaces spaces_;
  // Version of the sampling function, from the first call; 0 before it.
  std::uint32_t algorithm_version_ = 0;
  bool is_at_end_ = false;
};

}  // namespace negserve
