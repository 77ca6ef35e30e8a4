#include "negserve/backoff.h"

#include <algorithm>
#include <thread>

namespace negserve {
namespace {

constexpr std::chrono::duration<double> kFirst(0.05);
constexpr std::chrono::duration<double> kLongest(2.0);

}  // namespace

Backoff::Backoff(std::chrono::milliseconds budget)
    : budget_(budget), random_(std::random_device{}()) {
  reset();
}

bool Backoff::wait() {
  const std::chrono::duration<double> wait =
      std::uniform_real_distribution<double>(0.5, 1.0)(random_) * ceiling_;
  if (Clock::now() + std::chrono::duration_cast<Clock::duration>(wait) > deadline_) return false;
  std::this_thread::sleep_for(wait);
  ceiling_ = std::min(2 * ceiling_, kLongest);
  return true;
}

void Backoff::reset() {
  deadline_ = Clock::now() + budget_;
  ceiling_ = kFirst;
}

}  // namespace negserve
