#include "negserve/errors.h"

#include <grpcpp/support/error_details.h>

#include "error_info.pb.h"

namespace negserve {
namespace {

constexpr char kErrorInfo[] = "/google.rpc.ErrorInfo";
constexpr char kDomain[] = "negserve.dev";

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() &&
         text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// What a server of negserve said; empty if the status is not one's.
errors::ErrorInfo error_info_of(const grpc::Status& status) {
  errors::ErrorInfo info;
  errors::Status details;
  if (grpc::ExtractErrorDetails(status, &details).ok()) {
    for (const google::protobuf::Any& detail : details.details()) {
      if (ends_with(detail.type_url(), kErrorInfo) && info.ParseFromString(detail.value()) &&
          info.domain() == kDomain) {
        return info;
      }
    }
  }
  return {};
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

// Throws what it means that gRPC or a proxy ended a call.
[[noreturn]] void throw_from_the_way(const grpc::Status& status, const std::string& target) {
  const std::string& said = status.error_message();
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
      throw UnavailableError(target + ": " + said);
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      throw StalledError(target + ": " + said);
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      if (said.find("message larger than max") != std::string::npos) {
        throw LimitExceededError(target + ": gRPC takes no such message: " + said);
      }
      [[fallthrough]];
    default:
      throw UnavailableError(target + ": the network, or a proxy on the way, ended the call: " +
                             said + " (" + name_of(status.error_code()) + ")");
  }
}

}  // namespace

void throw_status(const grpc::Status& status, const std::string& target) {
  const errors::ErrorInfo info = error_info_of(status);
  if (info.reason().empty()) throw_from_the_way(status, target);
  const std::string message = target + ": " + status.error_message();
  const std::string& reason = info.reason();
  const Error::Metadata metadata(info.metadata().begin(), info.metadata().end());

  // The reason says more than its code.
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
      throw UnavailableError(message, reason, metadata);
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNAUTHENTICATED:
      throw NotAllowedError(message, reason, metadata);
    default:
      throw ServerFaultError(message, reason, metadata);
  }
}

}  // namespace negserve
