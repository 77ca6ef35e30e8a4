// Reads a stream of messages ahead of the caller.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "negserve/connection.h"
#include "negserve/errors.h"

namespace negserve {

// A call that answers with a stream. Threads of gRPC receive and parse messages into a bounded
// queue, so further messages arrive while the caller works on one; HTTP/2 flow control stops the
// server while the queue is full.
//
// Base: gRPC's reactor of the call. A derived class starts the call in its constructor by start(),
// and calls close() in its destructor.
template <class Base, class Response>
class StreamReader : public Base {
 public:
  StreamReader(const StreamReader&) = delete;
  StreamReader& operator=(const StreamReader&) = delete;

  // Waits for the next message, at most for the timeout. Returns false if the server ended the
  // stream with OK.
  //
  // Throws StalledError on a timeout, or an Error by the server's reason.
  bool next(Response& message, std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, timeout, [&] { return !messages_.empty() || is_done_; })) {
      throw StalledError(target() + ": no message for " + std::to_string(timeout.count()) +
                         " ms; is the server overloaded, the network cut, or the name unknown?");
    }
    if (messages_.empty()) {
      if (status_.ok()) return false;
      throw_status(status_, target());
    }
    message.Swap(&messages_.front());
    messages_.pop_front();
    read_ahead();
    return true;
  }

  const std::shared_ptr<Replica>& replica() const { return replica_; }

 protected:
  // read_ahead: maximum number of messages kept for the caller
  StreamReader(std::shared_ptr<Replica> replica, std::size_t read_ahead)
      : replica_(std::move(replica)), most_messages_(read_ahead) {}

  // Starts the call, after the stub's method was called with the context and this.
  void start() {
    // Without the hold, gRPC would take the call for finished while no read is in progress.
    this->AddHold();
    {
      const std::lock_guard lock(mutex_);
      read_ahead();
    }
    this->StartCall();
  }

  // Cancels the call, and waits until gRPC no longer uses this object.
  void close() {
    context_.TryCancel();
    release_hold();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return is_done_; });
  }

  const std::string& target() const { return replica_->target; }

  grpc::ClientContext context_;
  std::mutex mutex_;
  // Whether reads and writes may be started. Guarded by the mutex.
  bool is_held_ = true;

 private:
  void OnReadDone(bool ok) final {
    if (ok) {
      const std::lock_guard lock(mutex_);
      is_reading_ = false;
      messages_.emplace_back();
      messages_.back().Swap(&incoming_);
      read_ahead();
      changed_.notify_all();
    } else {
      release_hold();  // no further message; OnDone follows with the status
    }
  }

  void OnDone(const grpc::Status& status) final {
    const std::lock_guard lock(mutex_);
    status_ = status;
    is_done_ = true;
    changed_.notify_all();
  }

  // Requires the mutex.
  void read_ahead() {
    if (is_held_ && !is_reading_ && messages_.size() < most_messages_) {
      is_reading_ = true;
      this->StartRead(&incoming_);
    }
  }

  void release_hold() {
    {
      const std::lock_guard lock(mutex_);
      if (!is_held_) return;
      is_held_ = false;
    }
    this->RemoveHold();
  }

  const std::shared_ptr<Replica> replica_;
  const std::size_t most_messages_;
  std::condition_variable changed_;
  Response incoming_;
  std::deque<Response> messages_;
  bool is_reading_ = false;
  bool is_done_ = false;
  grpc::Status status_;
};

}  // namespace negserve
