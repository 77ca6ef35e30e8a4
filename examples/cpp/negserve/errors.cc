#include "negserve/errors.h"

#include <grpcpp/support/error_details.h>

#include "error_info.pb.h"

namespace negserve {
namespace {

constexpr char kErrorInfo[] = "/google.rpc.ErrorInfo";
constexpr char kRetryInfo[] = "/google.rpc.RetryInfo";
constexpr char kDomain[] = "negserve.dev";

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() &&
         text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The parts of a status that a server of negserve added.
struct Refusal {
  // Empty if the status is not a server's.
  errors::ErrorInfo info;
  // Whether the refusal is temporary.
  bool is_temporary = false;
};

Refusal refusal_of(const grpc::Status& status) {
  Refusal refusal;
  errors::Status details;
  if (!grpc::ExtractErrorDetails(status, &details).ok()) return refusal;
  for (const google::protobuf::Any& detail : details.details()) {
    errors::ErrorInfo info;
    if (ends_with(detail.type_url(), kErrorInfo) && info.ParseFromString(detail.value()) &&
        info.domain() == kDomain) {
      refusal.info = info;
    }
    refusal.is_temporary |= ends_with(detail.type_url(), kRetryInfo);
  }
  return refusal;
}

std::string name_of(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::CANCELLED: return "CANCELLED";
    case grpc::StatusCode::UNKNOWN: return "UNKNOWN";
    case grpc::StatusCode::PERMISSION_DENIED: return "PERMISSION_DENIED";
    case grpc::StatusCode::UNAUTHENTICATED: return "UNAUTHENTICATED";
    case grpc::StatusCode::UNIMPLEMENTED: return "UNIMPLEMENTED";
    case grpc::StatusCode::INTERNAL: return "INTERNAL";
    default: return "status " + std::to_string(static_cast<int>(code));
  }
}

// Throws the error of a call that gRPC or a proxy ended.
[[noreturn]] void throw_transport_error(const grpc::Status& status, const std::string& target) {
  const std::string& message = status.error_message();
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
      throw UnavailableError(target + ": " + message);
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      throw StalledError(target + ": " + message);
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      if (message.find("message larger than max") != std::string::npos) {
        throw LimitExceededError(target + ": message too large for gRPC: " + message);
      }
      [[fallthrough]];
    default:
      throw UnavailableError(target + ": the network, or a proxy on the way, ended the call: " +
                             message + " (" + name_of(status.error_code()) + ")");
  }
}

}  // namespace

void throw_status(const grpc::Status& status, const std::string& target) {
  const auto [info, is_temporary] = refusal_of(status);
  if (info.reason().empty()) throw_transport_error(status, target);
  const std::string message = target + ": " + status.error_message();
  const std::string& reason = info.reason();
  const Error::Metadata metadata(info.metadata().begin(), info.metadata().end());

  // The reason is more specific than the code.
  if (reason == "UNKNOWN_DATASET") throw UnknownDatasetError(message, reason, metadata);
  if (reason == "FINGERPRINT_MISMATCH") throw FingerprintMismatchError(message, reason, metadata);
  if (reason == "LIMIT_EXCEEDED") throw LimitExceededError(message, reason, metadata);
  if (reason == "TOO_MANY_STREAMS" || reason == "QUOTA_EXCEEDED") {
    throw OverloadedError(message, reason, metadata);
  }
  // The stream is gone, but the server is not: open another stream.
  if (is_temporary) throw UnavailableError(message, reason, metadata);

  switch (status.error_code()) {
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::FAILED_PRECONDITION:
      throw InvalidRequestError(message, reason, metadata);
    case grpc::StatusCode::NOT_FOUND:
      throw UnknownDatasetError(message, reason, metadata);
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      throw LimitExceededError(message, reason, metadata);
    case grpc::StatusCode::UNAVAILABLE:
      throw UnavailableError(message, reason, metadata);
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNAUTHENTICATED:
      throw NotAllowedError(message, reason, metadata);
    default:
      throw ServerFaultError(message, reason, metadata);
  }
}

}  // namespace negserve
