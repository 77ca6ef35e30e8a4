#include "negserve/errors.h"

#include <grpcpp/support/error_details.h>

#include "error_info.pb.h"

namespace negserve {
namespace {

constexpr char kErrorInfo[] = "/google.rpc.ErrorInfo";

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() &&
         text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The server's ErrorInfo; empty if the status has none.
errors::ErrorInfo error_info_of(const grpc::Status& status) {
  errors::ErrorInfo info;
  errors::Status details;
  if (grpc::ExtractErrorDetails(status, &details).ok()) {
    for (const google::protobuf::Any& detail : details.details()) {
      if (ends_with(detail.type_url(), kErrorInfo) && info.ParseFromString(detail.value())) {
        return info;
      }
    }
  }
  return {};
}

}  // namespace

void throw_status(const grpc::Status& status, const std::string& target) {
  const errors::ErrorInfo info = error_info_of(status);
  const std::string message = target + ": " + status.error_message();
  const std::string& reason = info.reason();
  const Error::Metadata metadata(info.metadata().begin(), info.metadata().end());

  // The reason says more than the code.
  if (reason == "UNKNOWN_DATASET") throw UnknownDatasetError(message, reason, metadata);
  if (reason == "FINGERPRINT_MISMATCH") throw FingerprintMismatchError(message, reason, metadata);
  if (reason == "LIMIT_EXCEEDED") throw LimitExceededError(message, reason, metadata);
  if (reason == "TOO_MANY_STREAMS") throw OverloadedError(message, reason, metadata);
  // The stream is gone, the server is not: open another.
  if (reason == "STREAM_IDLE") throw UnavailableError(message, reason, metadata);

  switch (status.error_code()) {
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::FAILED_PRECONDITION:
      throw InvalidRequestError(message, reason, metadata);
    case grpc::StatusCode::NOT_FOUND:
      throw UnknownDatasetError(message, reason, metadata);
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      throw LimitExceededError(message, reason, metadata);
    case grpc::StatusCode::UNAVAILABLE:
    // Not by this client, which looks at no status of a call that it cancels: a server that
    // stops, or a balancer in between, ended it.
    case grpc::StatusCode::CANCELLED:
      throw UnavailableError(message, reason, metadata);
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      throw StalledError(message, reason, metadata);
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNAUTHENTICATED:
      throw NotAllowedError(message, reason, metadata);
    default:
      throw ServerFaultError(message, reason, metadata);
  }
}

}  // namespace negserve
