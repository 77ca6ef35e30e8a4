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

#include "negserve/budget.h"
#include "negserve/errors.h"
#include "negserve/v1/sampler.grpc.pb.h"

namespace negserve {

struct Options {
  // HOST:PORT or unix:PATH of replicas of the same data, used in turn.
  std::vector<std::string> targets = {"127.0.0.1:7733"};
  // What a call, or a stream's next message, may take.
  std::chrono::milliseconds timeout{30'000};
  // How long it is tried again after a failure, on all replicas together, without any progress; by
  // default the timeout, for each of them.
  std::optional<std::chrono::milliseconds> patience;
  // Told of each error after which a stream or a call is tried again; may be empty. Called by
  // the thread that waits.
  std::function<void(const Error&)> on_retry;
};

// One server, and the way to it.
struct Replica {
  std::string target;
  std::unique_ptr<v1::SamplerService::Stub> stub;
};

// Thread-safe.
class Connection {
 public:
  // Throws an InvalidRequestError if a target is none.
  explicit Connection(Options options);

  const Options& options() const { return options_; }

  // The replica in use. Connected on first use.
  std::shared_ptr<Replica> replica();

  // A budget for tries at something.
  Budget budget() const;

  // To be called where a try is caught to have failed: leaves the replica, and pauses before the
  // next try. Throws the error that is handled if the budget is spent.
  void pause_after(const PassingError& error, const Replica& failed, Budget& budget);

  // As pause_after, where the replica said that it lacks the dataset: another one may have it, and
  // is asked at once. Throws the error that is handled if no replica has it.
  void ask_another(const UnknownDatasetError& error, const Replica& failed, Budget& budget);

  // Calls a unary method, on as many replicas as it takes.
  //
  // Throws an Error, typed by what the server said.
  template <class Request, class Response>
  Response call(grpc::Status (v1::SamplerService::Stub::*method)(grpc::ClientContext*,
                                                                 const Request&, Response*),
                const Request& request) {
    return ask<Response>([&](v1::SamplerService::Stub& stub, grpc::ClientContext& context,
                             Response& response) {
      return (stub.*method)(&context, request, &response);
    });
  }

  // Reads all messages of a method that answers one request with a short stream, on as many
  // replicas as it takes. A stream that breaks is read anew.
  //
  // Throws an Error, typed by what the server said.
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
  // Asks one replica after the other until an answer is whole.
  template <class Answer, class Try>
  Answer ask(Try attempt) {
    Budget tries = budget();
    for (;;) {
      const std::shared_ptr<Replica> asked = replica();
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + tries.limit());
      Answer answer;
      const grpc::Status status = attempt(*asked->stub, context, answer);
      if (status.ok()) return answer;
      try {
        throw_status(status, asked->target);
      } catch (const PassingError& error) {
        pause_after(error, *asked, tries);
      } catch (const UnknownDatasetError& error) {
        ask_another(error, *asked, tries);
      }
    }
  }

  // Leaves a replica: what comes next asks another. With one target only, that is the same one
  // over a new connection: the old one may be cut without having noticed. Calls under way go on.
  //
  // Nothing happens if `lost` is no longer the one in use.
  void fail_over(const Replica& lost);

  const Options options_;
  std::mutex mutex_;
  std::size_t current_ = 0;
  std::shared_ptr<Replica> replica_;
};

}  // namespace negserve
