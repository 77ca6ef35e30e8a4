// How long to wait before the next try.
#pragma once

#include <chrono>
#include <random>

namespace negserve {

// Tries within a budget of time: exponential waits with jitter between them.
class Backoff {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Backoff(std::chrono::milliseconds budget);

  // Waits before the next try. False, at once, if that would pass the budget.
  bool wait();
  // After progress: the budget and the waits begin anew.
  void reset();

 private:
  std::chrono::milliseconds budget_;
  Clock::time_point deadline_;
  std::chrono::duration<double> ceiling_;
  std::mt19937 random_;
};

}  // namespace negserve
