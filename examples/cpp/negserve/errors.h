// Errors of the client, by who must act.
//
//     Error (std::runtime_error)
//     ├── RequestError                  the calling program must send something else
//     │   ├── InvalidRequestError       an id, shape, width or option is not legal
//     │   ├── LimitExceededError        more than the server answers in one message
//     │   ├── UnknownDatasetError       no dataset of that name
//     │   └── FingerprintMismatchError  that name holds another graph
//     └── ServiceError                  the operator must act, or the caller retries later
//         ├── TransientError            the client itself retries, within its patience
//         │   ├── UnavailableError      no server answers, it shuts down, or the network or a proxy
//         │   │                         ended the call
//         │   ├── StalledError          a server is there, but did not answer in time
//         │   ├── OverloadedError       the server has no place for another stream
//         │   └── InvalidAnswerError    a server's answer can't be true (answers.h)
//         ├── NotAllowedError           the server's operator does not allow it
//         └── ServerFaultError          the server itself failed; its log says why
//
// The server's reason decides. A status without a reason comes from gRPC or a proxy and is retried,
// whatever its code. The exception is a message that is too large for gRPC: LimitExceededError.
#pragma once

#include <grpcpp/support/status.h>

#include <map>
#include <stdexcept>
#include <string>

namespace negserve {

// Base of all errors of this library.
class Error : public std::runtime_error {
 public:
  using Metadata = std::map<std::string, std::string>;

  explicit Error(const std::string& message, std::string reason = "", Metadata metadata = {})
      : std::runtime_error(message), reason_(std::move(reason)), metadata_(std::move(metadata)) {}

  // Name of the server's reason (errors.proto); empty if the error has none.
  const std::string& reason() const { return reason_; }
  // The offending value, the limit, and further keys documented with the reason.
  const Metadata& metadata() const { return metadata_; }
  // Name of the error's class.
  virtual const char* name() const { return "Error"; }

 private:
  std::string reason_;
  Metadata metadata_;
};

struct RequestError : Error {
  using Error::Error;
};
struct ServiceError : Error {
  using Error::Error;
};
struct TransientError : ServiceError {
  using ServiceError::ServiceError;
};

struct InvalidRequestError : RequestError {
  using RequestError::RequestError;
  const char* name() const override { return "InvalidRequestError"; }
};
struct LimitExceededError : RequestError {
  using RequestError::RequestError;
  const char* name() const override { return "LimitExceededError"; }
};
struct UnknownDatasetError : RequestError {
  using RequestError::RequestError;
  const char* name() const override { return "UnknownDatasetError"; }
};
struct FingerprintMismatchError : RequestError {
  using RequestError::RequestError;
  const char* name() const override { return "FingerprintMismatchError"; }
};
struct UnavailableError : TransientError {
  using TransientError::TransientError;
  const char* name() const override { return "UnavailableError"; }
};
struct StalledError : TransientError {
  using TransientError::TransientError;
  const char* name() const override { return "StalledError"; }
};
struct OverloadedError : TransientError {
  using TransientError::TransientError;
  const char* name() const override { return "OverloadedError"; }
};
struct NotAllowedError : ServiceError {
  using ServiceError::ServiceError;
  const char* name() const override { return "NotAllowedError"; }
};
struct ServerFaultError : ServiceError {
  using ServiceError::ServiceError;
  const char* name() const override { return "ServerFaultError"; }
};

// Throws the error of a status that is not OK.
//
// target: the server's address, named in the message.
[[noreturn]] void throw_status(const grpc::Status& status, const std::string& target);

}  // namespace negserve
