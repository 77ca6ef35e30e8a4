// Sends requests over one stream, and reads the answers.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include "negserve/stream_reader.h"

namespace negserve {

// Requests sent ahead of their answers: enough to hide a round trip.
constexpr std::size_t kAhead = 4;

// One open call with a stream of requests. A derived class starts it in its constructor by start().
template <class Request, class Response>
class RequestStream : public StreamReader<grpc::ClientBidiReactor<Request, Response>, Response> {
 public:
  void send(Request request) {
    const std::lock_guard lock(this->mutex_);
    if (!this->is_held_) return;  // the stream is over; receive() says why
    outgoing_.push_back(std::move(request));
    if (outgoing_.size() == 1) this->StartWrite(&outgoing_.front());
  }

  // Waits for an answer, and throws an Error if the stream ended.
  void receive(Response& response, std::chrono::milliseconds timeout) {
    if (!this->next(response, timeout)) {
      throw UnavailableError(this->target() + ": the stream was ended");
    }
  }

 protected:
  explicit RequestStream(std::shared_ptr<Replica> asked)
      : StreamReader<grpc::ClientBidiReactor<Request, Response>, Response>(std::move(asked),
                                                                          kAhead) {}

 private:
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(this->mutex_);
    if (!ok || !this->is_held_) return;
    outgoing_.pop_front();
    if (!outgoing_.empty()) this->StartWrite(&outgoing_.front());
  }

  // The message being sent, and those to be sent after it.
  std::deque<Request> outgoing_;
};

}  // namespace negserve
