// Reads and writes little-endian tensors, on machines of any byte order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "negserve/errors.h"
#include "negserve/v1/sampler.pb.h"

namespace negserve {

// Loads one id of a little-endian tensor. Compilers make one load of it.
template <std::size_t width>
std::int64_t load_id(const char* place) {
  std::uint64_t id = 0;
  for (std::size_t byte = 0; byte < width; ++byte) {
    id |= static_cast<std::uint64_t>(static_cast<unsigned char>(place[byte])) << (8 * byte);
  }
  return static_cast<std::int64_t>(id);
}

// Writes the lowest bytes of a number, lowest byte first.
template <std::size_t width>
void store(char* place, std::uint64_t number) {
  for (std::size_t byte = 0; byte < width; ++byte) {
    place[byte] = static_cast<char>(number >> (8 * byte));
  }
}

// Calls `visit` with the width of a tensor as a constant.
//
// Throws ServerFaultError unless the width is legal and the number of ids is the expected one.
template <class Visit>
void with_width(const v1::Ids& ids, std::size_t expected_size, Visit&& visit) {
  const std::size_t bytes = ids.data().size();
  const std::size_t width = bytes == 0 ? 1 : ids.width();
  if (bytes != expected_size * width) {
    throw ServerFaultError("a tensor has " + std::to_string(bytes) + " bytes and width " +
                           std::to_string(width) + ", expected " +
                           std::to_string(expected_size) + " ids");
  }
  switch (width) {
    case 1: return visit(std::integral_constant<std::size_t, 1>{});
    case 2: return visit(std::integral_constant<std::size_t, 2>{});
    case 4: return visit(std::integral_constant<std::size_t, 4>{});
    case 8: return visit(std::integral_constant<std::size_t, 8>{});
    default: throw ServerFaultError("a tensor has width " + std::to_string(width));
  }
}

// A little-endian IEEE 754 binary32.
inline float load_float(const char* place) {
  const auto bits = static_cast<std::uint32_t>(load_id<4>(place));
  float number;
  static_assert(sizeof number == sizeof bits);
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

}  // namespace negserve
