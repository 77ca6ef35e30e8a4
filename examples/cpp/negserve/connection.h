// A connection to a server, or to one of several replicas: channels, deadlines, typed errors.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "negserve/backoff.h"
#include "negserve/errors.h"
#include "negserve/v1/sampler.grpc.pb.h"

namespace negserve {

struct Options {
  // HOST:PORT or unix:PATH of replicas of the same data, used in turn.
  std::vector<std::string> targets = {"127.0.0.1:7733"};
  // What a call, or a stream's next message, may take.
  std::chrono::milliseconds timeout{30'000};
  // How long a lost server is waited for, all replicas together, without any progress.
  std::chrono::milliseconds patience{30'000};
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
  explicit Connection(Options options);

  const Options& options() const { return options_; }

  // The replica in use. Connected on first use.
  std::shared_ptr<Replica> replica();

  // Leaves a replica: what comes next asks another. With one target only, that is the same one
  // over a new connection: the old one may be cut without having noticed. Calls under way go on.
  //
  // Nothing happens if `lost` is no longer the one in use.
  void fail_over(const Replica& lost);

  // Lets a lost server be asked again, after a wait.
  //
  // Throws `error` if patience is at its end.
  template <class LostError>
  void wait(Backoff& backoff, const LostError& error) {
    if (options_.on_retry) options_.on_retry(error);
    if (!backoff.wait()) throw error;
  }

  // Calls a unary method, until a server answers.
  //
  // Throws an Error, typed by what the server said.
  template <class Request, class Response>
  Response call(grpc::Status (v1::SamplerService::Stub::*method)(grpc::ClientContext*,
                                                                 const Request&, Response*),
                const Request& request) {
    Backoff backoff(options_.patience);
    for (;;) {
      const std::shared_ptr<Replica> asked = replica();
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + options_.timeout);
      Response response;
      const grpc::Status status = ((*asked->stub).*method)(&context, request, &response);
      if (status.ok()) return response;
      try {
        throw_status(status, asked->target);
      } catch (const UnavailableError& error) {
        fail_over(*asked);
        wait(backoff, error);
      }
    }
  }

 private:
  const Options options_;
  std::mutex mutex_;
  std::size_t current_ = 0;
  std::shared_ptr<Replica> replica_;
};

}  // namespace negserve
