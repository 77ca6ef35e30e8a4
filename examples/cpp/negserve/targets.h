// Addresses of servers, checked before anybody is asked.
#pragma once

#include <string>

namespace negserve {

// Throws an InvalidRequestError if no server can listen at a target, with what is wrong and what to
// give: HOST:PORT or unix:PATH. What begins with a resolver of gRPC, such as dns: or ipv4:, is left
// to gRPC.
void check_target(const std::string& target);

}  // namespace negserve
