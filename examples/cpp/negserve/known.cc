#include "negserve/known.h"

#include <algorithm>
#include <string>
#include <utility>

#include "negserve/request_stream.h"
#include "negserve/tensors.h"
#include "negserve/triples.h"

namespace negserve {
namespace {

// Most pairs of one message: the server answers one while the next ones are under way.
constexpr std::size_t kMostPairs = std::size_t{1} << 14;

void check(bool holds, const std::string& field, std::uint64_t value, const std::string& limit) {
  if (!holds) throw InvalidAnswerError("Known", field, std::to_string(value), limit);
}

std::string range(std::uint64_t least, std::uint64_t most) {
  return std::to_string(least) + " to " + std::to_string(most);
}

// One open call.
class Call final : public RequestStream<v1::KnownRequest, v1::KnownResponse> {
 public:
  Call(std::shared_ptr<Replica> asked, const v1::KnownConfiguration& configuration)
      : RequestStream(std::move(asked)) {
    replica()->stub->async()->Known(&context_, this);
    start();
    v1::KnownRequest request;
    *request.mutable_configuration() = configuration;
    send(std::move(request));
  }
  ~Call() override { close(); }
};

v1::KnownRequest request_of(const Pairs& pairs, std::size_t begin, std::size_t end) {
  v1::KnownRequest request;
  encode_ids(pairs.first, begin, end, *request.mutable_pairs()->mutable_first());
  encode_ids(pairs.second, begin, end, *request.mutable_pairs()->mutable_second());
  return request;
}

}  // namespace

KnownAnswer::KnownAnswer(KnownValues& known, std::size_t num_pairs, std::uint64_t num_ids)
    : known_(known),
      num_pairs_(num_pairs),
      first_pair_(known.counts.size()),
      first_value_(known.values.size()),
      num_ids_(num_ids) {
  known_.counts.resize(first_pair_ + num_pairs);
}

std::size_t KnownAnswer::progress() const {
  return num_complete_ + known_.values.size() - first_value_;
}

void KnownAnswer::drop() {
  known_.counts.resize(first_pair_);
  known_.values.resize(first_value_);
}

bool KnownAnswer::take(const v1::KnownResponse& response) {
  check(response.first_pair() == num_complete_, "first_pair", response.first_pair(),
        std::to_string(num_complete_));
  const std::size_t most = num_pairs_ - num_complete_;
  const std::size_t length =
      response.counts().data().size() / std::max(response.counts().width(), 1U);
  // A message without pairs would never complete them.
  const std::size_t least = response.is_continued() ? 1 : std::min<std::size_t>(most, 1);
  check(least <= length && length <= most, "counts, number", length, range(least, most));
  check_ids("Known", "counts", response.counts(), length);
  const std::vector<std::uint64_t> counts = decode_ids(response.counts(), length);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < length; ++i) {
    const bool is_part = (i == 0 && largest_) || (i + 1 == length && response.is_continued());
    check(counts[i] >= (is_part ? 1U : 0U) && counts[i] <= num_ids_,
          "counts[" + std::to_string(i) + "]", counts[i], range(is_part ? 1 : 0, num_ids_));
    sum += counts[i];
  }
  check_ids("Known", "values", response.values(), sum);
  const std::vector<std::uint64_t> values = decode_ids(response.values(), sum);
  std::size_t at = 0;
  for (std::size_t i = 0; i < length; ++i) {
    std::uint64_t smallest = i == 0 && largest_ ? *largest_ + 1 : 0;
    for (const std::size_t end = at + counts[i]; at < end; ++at) {
      check(values[at] >= smallest, "values[" + std::to_string(at) + "]", values[at],
            "at least " + std::to_string(smallest));
      check(values[at] < num_ids_, "values", values[at], "below " + std::to_string(num_ids_));
      smallest = values[at] + 1;
    }
  }
  for (std::size_t i = 0; i < length; ++i) {
    known_.counts[first_pair_ + num_complete_ + i] += counts[i];
  }
  known_.values.insert(known_.values.end(), values.begin(), values.end());
  num_complete_ += length - (response.is_continued() ? 1 : 0);
  largest_.reset();
  if (response.is_continued()) largest_ = values.back();
  return num_complete_ == num_pairs_;
}

std::uint64_t num_ids_of(v1::Slot slot, const IdSpaces& spaces) {
  return slot == v1::SLOT_RELATION ? spaces.num_relations : spaces.num_entities;
}

KnownValues find_known(Connection& connection, const v1::KnownConfiguration& configuration,
                       const v1::GetDatasetResponse& dataset, const Pairs& pairs) {
  const IdSpaces spaces{dataset.dataset().num_entities(), dataset.dataset().num_relations()};
  const std::uint64_t num_ids = num_ids_of(configuration.slot(), spaces);
  const std::size_t step = std::clamp<std::size_t>(dataset.limits().max_triples_per_message(), 1,
                                                   kMostPairs);
  // An empty message is sent even without pairs: the server then checks the configuration.
  const std::size_t num_parts = std::max<std::size_t>((pairs.size() + step - 1) / step, 1);
  const auto end_of = [&](std::size_t part) { return std::min((part + 1) * step, pairs.size()); };
  KnownValues known;
  RetryBudget budget = connection.budget();
  std::size_t num_answered = 0;
  // Of the first unanswered message, by any stream.
  std::size_t most_came = 0;
  v1::KnownResponse response;
  for (;;) {
    const std::shared_ptr<Replica> replica = connection.replica();
    std::optional<KnownAnswer> answer;
    try {
      Call call(replica, configuration);
      std::size_t num_sent = num_answered;
      while (num_answered < num_parts) {
        for (; num_sent < std::min(num_answered + kAhead, num_parts); ++num_sent) {
          call.send(request_of(pairs, num_sent * step, end_of(num_sent)));
        }
        answer.emplace(known, end_of(num_answered) - num_answered * step, num_ids);
        for (bool is_last = false; !is_last;) {
          call.receive(response, budget.limit());
          is_last = answer->take(response);
          // The same part once more, on another stream, is no progress.
          if (is_last || answer->progress() > most_came) {
            budget.note_progress();
            most_came = is_last ? 0 : answer->progress();
          }
        }
        answer.reset();
        ++num_answered;
      }
      return known;
    } catch (const TransientError& error) {
      if (answer) answer->drop();
      connection.pause_after(error, *replica, budget);
    } catch (const UnknownDatasetError& error) {
      if (answer) answer->drop();
      connection.ask_another(error, *replica, budget);
    }
  }
}

}  // namespace negserve
