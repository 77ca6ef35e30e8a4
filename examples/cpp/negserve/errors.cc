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

// What a server of negserve said.
struct Said {
  // Empty if the status is not one's.
  errors::ErrorInfo info;
  // Whether it may be otherwise when it is asked again.
  bool passes = false;
};

Said said_by_server(const grpc::Status& status) {
  Said said;
  errors::Status details;
  if (!grpc::ExtractErrorDetails(status, &details).ok()) return said;
  for (const google::protobuf::Any& detail : details.details()) {
    errors::ErrorInfo info;
    if (ends_with(detail.type_url(), kErrorInfo) && info.ParseFromString(detail.value()) &&
        info.domain() == kDomain) {
      said.info = info;
    }
    said.passes |= ends_with(detail.type_url(), kRetryInfo);
  }
  return said;
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
  const auto [info, passes] = said_by_server(status);
  if (info.reason().empty()) throw_from_the_way(status, target);
  const std::string message = target + ": " + status.error_message();
  const std::string& reason = info.reason();
  const Error::Metadata metadata(info.metadata().begin(), info.metadata().end());

  // The reason says more than its code.
  if (reason == "UNKNOWN_DATASET") throw UnknownDatasetError(message, reason, metadata);
  if (reason == "FINGERPRINT_MISMATCH") throw FingerprintMismatchError(message, reason, metadata);
  if (reason == "LIMIT_EXCEEDED") throw LimitExceededError(message, reason, metadata);
  if (reason == "TOO_MANY_STREAMS") throw OverloadedError(message, reason, metadata);
  // As when the stream is gone, but the server is not: open another.
  if (passes) throw UnavailableError(message, reason, metadata);

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
