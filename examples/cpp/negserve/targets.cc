#include "negserve/targets.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <set>

#include "negserve/errors.h"

namespace negserve {
namespace {

// Schemes of gRPC's name resolvers.
const std::set<std::string> kResolvers = {"dns",  "ipv4",          "ipv6", "unix",
                                          "unix-abstract", "vsock", "xds"};
const char* const kForm = "give HOST:PORT, such as 127.0.0.1:7733, or unix:PATH";
// Longest path in the system's address of a unix socket, without its final zero byte.
constexpr std::size_t kMostPathBytes = 107;

bool is_blank(unsigned char character) { return character <= 0x20 || character == 0x7f; }

bool is_number(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char character) {
    return std::isdigit(character) != 0;
  });
}

// The fault of a HOST:PORT; empty if there is none.
std::string host_and_port_problem(const std::string& target) {
  const std::size_t at = target.rfind(':');
  if (at == std::string::npos || target.back() == ']') {
    return std::string("has no ") + (is_number(target) ? "host" : "port") + "; " + kForm;
  }
  const std::string host = target.substr(0, at), port = target.substr(at + 1);
  if (target.find('/') != std::string::npos) return std::string("has a path; ") + kForm;
  if (host.empty()) return std::string("has no host; ") + kForm;
  if (host.find(':') != std::string::npos && (host.front() != '[' || host.back() != ']')) {
    return "has an IPv6 address without brackets; give it as in [::1]:7733";
  }
  const bool is_port = is_number(port) && port.size() <= 5 && std::stoi(port) >= 1 &&
                       std::stoi(port) <= 65535;
  return is_port ? "" : "has '" + port + "' in place of a port; give 1 to 65535";
}

std::string problem(const std::string& target) {
  if (target.empty()) return std::string("is empty; ") + kForm;
  if (std::any_of(target.begin(), target.end(), is_blank)) {
    return std::string("has a blank or a control character; ") + kForm;
  }
  const std::string scheme = target.substr(0, target.find(':'));
  const std::string rest = target.substr(std::min(scheme.size() + 1, target.size()));
  if (rest.compare(0, 2, "//") == 0 && kResolvers.count(scheme) == 0) {
    const std::string address = rest.substr(2, rest.find('/', 2) - 2);
    return "is a URL; give its address alone, " + (address.empty() ? "HOST:PORT" : address);
  }
  if (scheme == "unix" && target.size() > scheme.size()) {
    if (rest.find_first_not_of('/') == std::string::npos) return "has no path; give unix:PATH";
    if (rest.size() <= kMostPathBytes) return "";
    return "has a path of " + std::to_string(rest.size()) +
           " bytes; the most for a unix socket are " + std::to_string(kMostPathBytes);
  }
  const bool is_for_grpc = scheme == "unix-abstract" || rest.find_first_of(":/") != std::string::npos;
  if (kResolvers.count(scheme) != 0 && is_for_grpc) return "";
  return host_and_port_problem(target);
}

}  // namespace

void check_target(const std::string& target) {
  const std::string wrong = problem(target);
  if (!wrong.empty()) throw InvalidRequestError("target '" + target + "' " + wrong);
}

}  // namespace negserve
