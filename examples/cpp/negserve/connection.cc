#include "negserve/connection.h"

#include "negserve/answers.h"
#include "negserve/targets.h"

#include <utility>

namespace negserve {
namespace {

constexpr int kMaxMessageBytes = 64 * 1024 * 1024;

std::shared_ptr<Replica> connect(const std::string& target) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  // A new channel must be a new connection, see fail_over.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  auto replica = std::make_shared<Replica>();
  replica->target = target;
  replica->stub = v1::SamplerService::NewStub(
      grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments));
  return replica;
}

}  // namespace

Connection::Connection(Options options) : options_(std::move(options)) {
  if (options_.targets.empty()) throw InvalidRequestError("no target; give at least one");
  for (const std::string& target : options_.targets) check_target(target);
}

std::shared_ptr<Replica> Connection::replica() {
  const std::lock_guard lock(mutex_);
  if (!replica_) replica_ = connect(options_.targets[current_ % options_.targets.size()]);
  return replica_;
}

RetryBudget Connection::budget() const {
  const std::size_t num_replicas = options_.targets.size();
  const auto patience = options_.patience.value_or(
      options_.timeout * static_cast<std::chrono::milliseconds::rep>(num_replicas));
  return RetryBudget(options_.timeout, patience, num_replicas);
}

void Connection::pause_after(const TransientError& error, const Replica& failed,
                             RetryBudget& budget) {
  fail_over(failed);
  if (options_.on_retry) options_.on_retry(error);
  const bool is_invalid = dynamic_cast<const InvalidAnswerError*>(&error) != nullptr;
  if (is_invalid && !budget.note_invalid_answer()) throw;
  if (!budget.pause()) throw;
}

void Connection::ask_another(const UnknownDatasetError& error, const Replica& failed,
                             RetryBudget& budget) {
  fail_over(failed);
  if (!budget.note_missing_dataset(failed.target, options_.targets)) throw;
  if (options_.on_retry) options_.on_retry(error);
}

void Connection::fail_over(const Replica& lost) {
  const std::lock_guard lock(mutex_);
  if (replica_.get() != &lost) return;
  replica_.reset();
  ++current_;
}

}  // namespace negserve
