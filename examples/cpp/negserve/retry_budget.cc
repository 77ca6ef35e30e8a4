#include "negserve/retry_budget.h"

#include <algorithm>
#include <thread>

namespace negserve {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr Seconds kFirstPause(0.05);
constexpr Seconds kLongestPause(2.0);
// No try starts with less time left than this.
constexpr std::chrono::milliseconds kLeast(50);

}  // namespace

RetryBudget::RetryBudget(std::chrono::milliseconds timeout, std::chrono::milliseconds patience,
               std::size_t num_replicas)
    : timeout_(timeout),
      patience_(patience),
      num_replicas_(num_replicas),
      random_(std::random_device{}()) {
  note_progress();
}

void RetryBudget::note_progress() {
  num_invalid_answers_ = 0;
  without_dataset_.clear();
  num_unasked_ = num_replicas_;
  first_failure_.reset();
  longest_pause_ = kFirstPause;
}

std::chrono::milliseconds RetryBudget::limit() const {
  if (!first_failure_) return timeout_;
  const auto share = left() / static_cast<std::chrono::milliseconds::rep>(num_unasked_);
  return std::min(timeout_, std::max(share, kLeast));
}

bool RetryBudget::pause() {
  if (!first_failure_) first_failure_ = Clock::now();
  const Seconds longest = longest_pause_;
  if (--num_unasked_ == 0) {
    num_unasked_ = num_replicas_;
    longest_pause_ = std::min(2 * longest, kLongestPause);
  }
  const std::chrono::milliseconds remaining = left();
  if (remaining <= kLeast) return false;
  const double jitter = std::uniform_real_distribution<double>(0.5, 1.0)(random_);
  // A pause takes at most half of a replica's share, so that time is left for the tries.
  std::this_thread::sleep_for(std::min<Seconds>(
      jitter * longest, Seconds(remaining) / (2.0 * static_cast<double>(num_unasked_))));
  return true;
}

bool RetryBudget::note_missing_dataset(const std::string& target,
                                       const std::vector<std::string>& targets) {
  without_dataset_.insert(target);
  return std::any_of(targets.begin(), targets.end(), [this](const std::string& each) {
    return without_dataset_.count(each) == 0;
  });
}

std::chrono::milliseconds RetryBudget::left() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(*first_failure_ + patience_ -
                                                               Clock::now());
}

}  // namespace negserve
