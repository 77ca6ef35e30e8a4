// How long something is tried again, and how long one try may take.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace negserve {

// The time that a call, or a stream between two messages, may spend on tries that fail.
//
// Time counts from the first failure since there was progress; until then each message may take
// `timeout`. After it, one silent replica never uses up what the others need: a try may take its
// equal share of what is left, among the replicas that were not asked yet in this round.
class Budget {
 public:
  // patience: from the first failure without progress to the last try's end
  Budget(std::chrono::milliseconds timeout, std::chrono::milliseconds patience,
         std::size_t num_replicas);

  // Begins anew: a message came.
  void note_progress();
  // What the next message may take.
  std::chrono::milliseconds limit() const;
  // After a failure: pauses before the next try, with jitter, longer each round. False, at once,
  // if nothing is left for one.
  bool pause();
  // After an answer that can't be true. False if each replica gave a few of them: every RPC is pure,
  // so what they say is what they go on to say.
  bool note_invalid_answer() { return ++num_invalid_answers_ < 3 * num_replicas_; }
  // After a replica said that it lacks the dataset. False if all targets have said so.
  bool note_lack(const std::string& target, const std::vector<std::string>& targets);

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
