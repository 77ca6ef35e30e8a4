// An epoch from a server, batch by batch, through lost servers, restarts and failovers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "negserve/answers.h"
#include "negserve/budget.h"
#include "negserve/connection.h"
#include "negserve/negatives.h"
#include "negserve/triples.h"
#include "negserve/v1/sampler.pb.h"

namespace negserve {

// One batch of one rank: m positives (m may be 0 with the short tail rule) and their negatives.
struct EpochBatch {
  // Position within the epoch at which the next global batch begins.
  std::uint64_t next_start = 0;
  Triples positives;
  Negatives negatives;
  // m subsampling weights; empty unless asked for.
  std::vector<float> weights;
};

// What is left of one epoch.
//
// A stream that breaks or stalls, a server that is killed, drained or restarted, costs a delay,
// not a batch: reading goes on at `next_start`, on the next replica if there are several, as long
// as the connection's patience lasts without progress. Not thread-safe.
class EpochStream {
 public:
  // request: with the fingerprint that every server has to have
  // spaces: of the dataset
  EpochStream(std::shared_ptr<Connection> connection, v1::SampleEpochRequest request,
              const IdSpaces& spaces);
  ~EpochStream();
  EpochStream(EpochStream&&) noexcept;
  EpochStream& operator=(EpochStream&&) noexcept;

  // Reads the next batch into `batch`, whose memory is used again. False at the epoch's end.
  //
  // Throws a PassingError if no server answered for as long as the connection is patient, else an Error typed by what the server said.
  bool next(EpochBatch& batch);

  // Where to go on after the last batch: with the number of the epoch, all the state of a trainer.
  std::uint64_t next_start() const { return request_.start(); }

 private:
  class Call;

  // Waits for batches, over the open call or a new one. False at the epoch's end.
  bool receive();
  // Takes what the first message of a call says.
  void configure();
  // Checks all batches of the last message.
  void check_message() const;
  // Takes the next batch of the last message.
  void take(EpochBatch& batch);

  std::shared_ptr<Connection> connection_;
  v1::SampleEpochRequest request_;
  Budget budget_;
  std::unique_ptr<Call> call_;
  // What came last, and how many of its batches were taken.
  v1::SampleEpochResponse message_;
  int num_taken_ = 0;
  // Batches that the open call still owes.
  std::uint64_t num_left_ = 0;
  // Of the whole epoch.
  std::uint64_t num_positives_ = 0;
  IdSpaces spaces_;
  // Of the sampling function, as the first call said; 0 before it.
  std::uint32_t algorithm_version_ = 0;
  bool is_at_end_ = false;
};

}  // namespace negserve
