#include "negserve/triples.h"

#include <algorithm>

#include "negserve/tensors.h"

namespace negserve {
namespace {

void decode_column(const v1::Ids& ids, std::vector<std::int64_t>& column) {
  with_width(ids, column.size(), [&](auto width) {
    const char* data = ids.data().data();
    for (std::size_t i = 0; i < column.size(); ++i) {
      column[i] = load_id<width>(data + i * width);
    }
  });
}

template <std::size_t width>
void encode_column(const std::int64_t* ids, std::size_t size, v1::Ids& message) {
  std::string& data = *message.mutable_data();
  data.resize(size * width);
  for (std::size_t i = 0; i < size; ++i) {
    store<width>(&data[i * width], static_cast<std::uint64_t>(ids[i]));
  }
  message.set_width(width);
}

}  // namespace

void encode_ids(const std::vector<std::int64_t>& column, std::size_t begin, std::size_t end,
                v1::Ids& message) {
  message.Clear();
  if (begin == end) return;
  const std::int64_t* ids = column.data() + begin;
  const std::size_t size = end - begin;
  std::uint64_t largest = 0;
  for (std::size_t i = 0; i < size; ++i) {
    largest = std::max(largest, static_cast<std::uint64_t>(ids[i]));
  }
  if (largest >> 8 == 0) return encode_column<1>(ids, size, message);
  if (largest >> 16 == 0) return encode_column<2>(ids, size, message);
  if (largest >> 32 == 0) return encode_column<4>(ids, size, message);
  encode_column<8>(ids, size, message);
}

void Triples::resize(std::size_t size) {
  heads.resize(size);
  relations.resize(size);
  tails.resize(size);
}

void Triples::append(std::int64_t head, std::int64_t relation, std::int64_t tail) {
  heads.push_back(head);
  relations.push_back(relation);
  tails.push_back(tail);
}

void decode(const v1::Triples& message, Triples& triples) {
  const v1::Ids& heads = message.heads();
  triples.resize(heads.width() == 0 ? 0 : heads.data().size() / heads.width());
  decode_column(heads, triples.heads);
  decode_column(message.relations(), triples.relations);
  decode_column(message.tails(), triples.tails);
}

void encode(const Triples& triples, std::size_t begin, std::size_t end, v1::Triples& message) {
  encode_ids(triples.heads, begin, end, *message.mutable_heads());
  encode_ids(triples.relations, begin, end, *message.mutable_relations());
  encode_ids(triples.tails, begin, end, *message.mutable_tails());
}

}  // namespace negserve
