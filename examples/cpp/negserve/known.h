// Known values of pairs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "negserve/answers.h"
#include "negserve/connection.h"
#include "negserve/v1/sampler.pb.h"

namespace negserve {

// Pairs as two columns of equal length: the ids of the slots that are not asked for, in the order
// head, relation, tail.
struct Pairs {
  std::vector<std::int64_t> first, second;

  std::size_t size() const { return first.size(); }
};

// Known values of pairs: `counts[i]` of them for pair i, those of the first pair first, and those of
// each pair ascending.
struct KnownValues {
  std::vector<std::uint64_t> counts, values;
};

// Checks the messages that answer a message of pairs, and joins their values.
class KnownAnswer {
 public:
  // known: results so far, to which this answer is added
  // num_pairs: number of pairs of the message
  // num_ids: size of the slot's id space
  KnownAnswer(KnownValues& known, std::size_t num_pairs, std::uint64_t num_ids);

  // Takes a message, and returns whether it is the last one.
  //
  // Throws InvalidAnswerError.
  bool take(const v1::KnownResponse& response);

  // How much has come: complete pairs and values.
  std::size_t progress() const;

  // Takes back what was added.
  void drop();

 private:
  KnownValues& known_;
  const std::size_t num_pairs_, first_pair_, first_value_;
  const std::uint64_t num_ids_;
  // Pairs all of whose values have come.
  std::size_t num_complete_ = 0;
  // Largest value so far of the next pair, if some of its values have come.
  std::optional<std::uint64_t> largest_;
};

// Size of the id space of a slot.
std::uint64_t num_ids_of(v1::Slot slot, const IdSpaces& spaces);

// Asks for the known values of pairs, over as many streams as it takes: on another one, messages
// whose answer is incomplete are sent again.
//
// Throws an Error by the server's reason.
KnownValues find_known(Connection& connection, const v1::KnownConfiguration& configuration,
                       const v1::GetDatasetResponse& dataset, const Pairs& pairs);

}  // namespace negserve
