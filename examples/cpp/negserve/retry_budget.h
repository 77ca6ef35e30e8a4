// Time limits of retries and of single tries.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace negserve {

// The time that a call, or a stream between two messages, may spend on failing tries.
//
// Time counts from the first failure without progress since; until then each message may take
// `timeout`. After it, a silent replica can't use up the time of the others: a try may take an
// equal share of the time left, divided among the replicas not yet tried in this round.
class RetryBudget {
 public:
  // patience: time from the first failure without progress to the end of the last try
  RetryBudget(std::chrono::milliseconds timeout, std::chrono::milliseconds patience,
         std::size_t num_replicas);

  // Resets the time, after a message arrived.
  void note_progress();
  // Time limit of the next message.
  std::chrono::milliseconds limit() const;
  // Pauses before the next try, with jitter, longer each round. Returns false, at once, if no time
  // is left.
  bool pause();
  // To be called after an answer that can't be true. Returns false if each replica gave a few such
  // answers: every RPC is pure, so it would repeat them.
  bool note_invalid_answer() { return ++num_invalid_answers_ < 3 * num_replicas_; }
  // To be called when a replica lacks the dataset. Returns false if all targets lack it.
  bool note_missing_dataset(const std::string& target, const std::vector<std::string>& targets);

 private:
  using Clock = std::chrono::steady_clock;

  std::chrono::milliseconds left() const;

  std::chrono::milliseconds timeout_, patience_;
  std::size_t num_replicas_;
  std::size_t num_unasked_;
  std::size_t num_invalid_answers_ = 0;
  std::set<std::string> without_dataset_;
  std::optional<Clock::time_point> first_failure_;
  std::chrono::duration<double> longest_pause_;
  std::mt19937 random_;
};

}  // namespace negserve
