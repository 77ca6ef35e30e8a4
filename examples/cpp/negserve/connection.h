// A connection to a server, or to one of several replicas: channels, deadlines, typed errors.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "negserve/retry_budget.h"
#include "negserve/errors.h"
#include "negserve/v1/sampler.grpc.pb.h"

namespace negserve {

struct Options {
  // HOST:PORT or unix:PATH of replicas of the same data, used in turn.
  std::vector<std::string> targets = {"127.0.0.1:7733"};
  // Time limit of a call, or of a stream's next message.
  std::chrono::milliseconds timeout{30'000};
  // Time limit of retries after a failure, on all replicas together, without progress; by default
  // the timeout, once for each replica.
  std::optional<std::chrono::milliseconds> patience;
  // Called with each error after which a stream or a call is retried, by the waiting thread; may be
  // empty.
  std::function<void(const Error&)> on_retry;
};

// One server and its channel.
struct Replica {
  std::string target;
  std::unique_ptr<v1::SamplerService::Stub> stub;
};

// Thread-safe.
class Connection {
 public:
  // Throws an InvalidRequestError for a malformed target.
  explicit Connection(Options options);

  const Options& options() const { return options_; }

  // The replica in use. Connected on first use.
  std::shared_ptr<Replica> replica();

  // Returns a budget for retries.
  RetryBudget budget() const;

  // To be called in the handler of a failed try: leaves the replica, and pauses before the next
  // try. Rethrows the current error if the budget is spent.
  void pause_after(const TransientError& error, const Replica& failed, RetryBudget& budget);

  // Like pause_after, for a replica that lacks the dataset: asks another one at once. Rethrows the
  // current error if all replicas lack it.
  void ask_another(const UnknownDatasetError& error, const Replica& failed, RetryBudget& budget);

  // Calls a unary method, on one replica after another until one answers.
  //
  // Throws an Error by the server's reason.
  template <class Request, class Response>
  Response call(grpc::Status (v1::SamplerService::Stub::*method)(grpc::ClientContext*,
                                                                 const Request&, Response*),
                const Request& request) {
    return ask<Response>([&](v1::SamplerService::Stub& stub, grpc::ClientContext& context,
                             Response& response) {
      return (stub.*method)(&context, request, &response);
    });
  }

  // Reads all messages of a method that answers one request with a short stream, on one replica
  // after another. A stream that breaks is read again from the start.
  //
  // Throws an Error by the server's reason.
  template <class Request, class Response>
  std::vector<Response> read(std::unique_ptr<grpc::ClientReader<Response>> (
                                 v1::SamplerService::Stub::*method)(grpc::ClientContext*,
                                                                    const Request&),
                             const Request& request) {
    return ask<std::vector<Response>>([&](v1::SamplerService::Stub& stub,
                                          grpc::ClientContext& context,
                                          std::vector<Response>& responses) {
      const auto reader = (stub.*method)(&context, request);
      for (Response response; reader->Read(&response);) responses.push_back(std::move(response));
      return reader->Finish();
    });
  }

 private:
  // Asks one replica after another until an answer is complete.
  template <class Answer, class Try>
  Answer ask(Try attempt) {
    RetryBudget tries = budget();
    for (;;) {
      const std::shared_ptr<Replica> asked = replica();
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + tries.limit());
      Answer answer;
      const grpc::Status status = attempt(*asked->stub, context, answer);
      if (status.ok()) return answer;
      try {
        throw_status(status, asked->target);
      } catch (const TransientError& error) {
        pause_after(error, *asked, tries);
      } catch (const UnknownDatasetError& error) {
        ask_another(error, *asked, tries);
      }
    }
  }

  // Leaves a replica: later calls use another. With a single target that is the same server over a
  // new connection, as the old one may be broken unnoticed. Calls in progress continue.
  //
  // No effect if `lost` is no longer in use.
  void fail_over(const Replica& lost);

  const Options options_;
  std::mutex mutex_;
  std::size_t current_ = 0;
  std::shared_ptr<Replica> replica_;
};

}  // namespace negserve
