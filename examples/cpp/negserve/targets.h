// Checks of server addresses, before the first call.
#pragma once

#include <string>

namespace negserve {

// Throws an InvalidRequestError for a malformed target, with the fault and the remedy. A target is
// HOST:PORT or unix:PATH. A scheme of gRPC's resolvers, such as dns: or ipv4:, is left to gRPC.
void check_target(const std::string& target);

}  // namespace negserve
