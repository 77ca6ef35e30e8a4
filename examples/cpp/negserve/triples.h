// Whole triples, as columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "negserve/v1/sampler.pb.h"

namespace negserve {

// n triples as three columns of equal length.
struct Triples {
  std::vector<std::int64_t> heads, relations, tails;

  std::size_t size() const { return heads.size(); }
  void resize(std::size_t size);
  void append(std::int64_t head, std::int64_t relation, std::int64_t tail);
};

// Encodes the ids from `begin` to before `end` in the narrowest width that fits.
void encode_ids(const std::vector<std::int64_t>& column, std::size_t begin, std::size_t end,
                v1::Ids& message);

// Decodes a message into columns, reusing their memory.
//
// Throws ServerFaultError if the message's columns do not fit together.
void decode(const v1::Triples& message, Triples& triples);

// Encodes the rows from `begin` to before `end`, each column in the narrowest width that fits. A
// negative id becomes a huge one, which the server refuses as out of range.
void encode(const Triples& triples, std::size_t begin, std::size_t end, v1::Triples& message);

}  // namespace negserve
