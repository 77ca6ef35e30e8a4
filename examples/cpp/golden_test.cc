// Replays the golden files of proto/testdata without a server: rebuilds recorded answers, maps
// recorded refusals to errors, and compares both with the files.
//
//   golden_test FOLDER
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/support/status.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iostream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "negserve/answers.h"
#include "negserve/errors.h"
#include "negserve/known.h"
#include "negserve/negatives.h"
#include "negserve/triples.h"
#include "negserve/v1/sampler.pb.h"

namespace {

namespace v1 = negserve::v1;
using google::protobuf::Struct;
using google::protobuf::Value;

void check(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

const Value& at(const Struct& object, const std::string& key) {
  const auto found = object.fields().find(key);
  check(found != object.fields().end(), "no key " + key);
  return found->second;
}

std::string from_hex(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// The messages of a case's requests or responses.
template <class Message>
std::vector<Message> messages(const Struct& one_case, const std::string& key) {
  std::vector<Message> result;
  for (const Value& each : at(one_case, key).list_value().values()) {
    result.emplace_back();
    check(result.back().ParseFromString(
              from_hex(at(each.struct_value(), "hex").string_value())),
          key + " can't be parsed");
  }
  return result;
}

// Changes an answer, and expects it to be refused.
template <class Message, class Edit, class Take>
void refused(const Message& answer, const std::string& field, Edit edit, Take take) {
  Message other = answer;
  edit(other);
  try {
    take(other);
  } catch (const negserve::InvalidAnswerError& error) {
    check(error.metadata().at("field") == field, "refused for " + error.metadata().at("field"));
    return;
  }
  check(false, "not refused: " + field);
}

// Checks a batch against its request, and expects changed copies to be refused.
void check_batch(const v1::CorruptedBatch& batch, const v1::SamplerConfig& config,
                 const negserve::IdSpaces& spaces, const negserve::Triples& positives,
                 std::uint64_t position) {
  const auto take = [&](const v1::CorruptedBatch& other) {
    negserve::check_batch("Sample", other, config, spaces, positives, 0, positives.size(), position);
  };
  take(batch);
  using Batch = v1::CorruptedBatch;
  refused(batch, "batch.position", [](Batch& b) { b.set_position(b.position() + 1); }, take);
  refused(batch, "batch.num_positives", [](Batch& b) { b.set_num_positives(0xffffffff); }, take);
  refused(batch, "batch.num_saturated",
          [](Batch& b) { b.set_num_saturated(b.num_positives() + 1); }, take);
  refused(batch, "batch.replaced.width", [](Batch& b) { b.mutable_replaced()->set_width(3); }, take);
  refused(batch, "batch.replaced.data, bytes",
          [](Batch& b) { b.mutable_replaced()->mutable_data()->push_back(0); }, take);
  refused(batch, "batch.mask, bytes", [](Batch& b) { b.mutable_mask()->append(100, 0); }, take);
  refused(batch, "batch.log_q, bytes", [](Batch& b) { b.mutable_log_q()->push_back(0); }, take);
  if (positives.size() == 0) return;
  const auto beyond = [](Batch& b) {
    std::string& data = *b.mutable_replaced()->mutable_data();
    data.assign(data.size(), '\xff');
  };
  refused(batch, "batch.replaced", beyond, take);
  refused(batch, "batch.head_counts",
          [&](Batch& b) {
            b.mutable_head_counts()->set_width(4);
            b.mutable_head_counts()->set_data(std::string(4 * positives.size(), '\x7f'));
          },
          take);
}

struct Batch {
  negserve::Triples positives;
  v1::CorruptedBatch encoded;
};

// Rebuilds batches and compares them with those of the file.
void compare(const Struct& one_case, const v1::SamplerConfig& config,
             const std::vector<Batch>& batches) {
  const auto& expected = at(one_case, "batches").list_value().values();
  check(static_cast<std::size_t>(expected.size()) == batches.size(), "another number of batches");
  for (std::size_t b = 0; b < batches.size(); ++b) {
    negserve::Negatives negatives;
    negatives.reset(batches[b].positives.size(), config);
    negserve::expand(batches[b].encoded, config, batches[b].positives, 0, negatives);
    const Struct& object = expected[b].struct_value();
    std::size_t index = 0;
    for (const Value& row : at(object, "negatives").list_value().values()) {
      for (const Value& triple : row.list_value().values()) {
        const auto& ids = triple.list_value().values();
        check(index < negatives.size() &&
                  ids[0].number_value() == static_cast<double>(negatives.triples.heads[index]) &&
                  ids[1].number_value() == static_cast<double>(negatives.triples.relations[index]) &&
                  ids[2].number_value() == static_cast<double>(negatives.triples.tails[index]),
              "negative " + std::to_string(index) + " of batch " + std::to_string(b) + " differs");
        ++index;
      }
    }
    check(index == negatives.size(), "another number of negatives");
    index = 0;
    for (const Value& row : at(object, "mask").list_value().values()) {
      for (const Value& flag : row.list_value().values()) {
        check((flag.number_value() == 1) == negatives.is_valid(index++), "the mask differs");
      }
    }
    check(index == negatives.size(), "another number of flags");
  }
}

void replay_sample(const Struct& one_case, const negserve::IdSpaces& spaces) {
  const auto requests = messages<v1::SampleRequest>(one_case, "requests");
  const auto responses = messages<v1::SampleResponse>(one_case, "responses");
  check(responses.size() <= requests.size(), "more responses than requests");
  std::vector<Batch> batches;
  for (std::size_t i = 1; i < responses.size(); ++i) {
    batches.emplace_back();
    const v1::Triples& sent = requests[i].positives().triples();
    negserve::decode(sent, batches.back().positives);
    batches.back().encoded = responses[i].batch();
    check_batch(responses[i].batch(), requests[0].configuration().sampler(), spaces,
                batches.back().positives, requests[i].positives().position());
    // Encoding the triples again gives the recorded request.
    v1::Triples encoded;
    negserve::encode(batches.back().positives, 0, batches.back().positives.size(), encoded);
    negserve::Triples decoded;
    negserve::decode(encoded, decoded);
    check(decoded.heads == batches.back().positives.heads &&
              decoded.relations == batches.back().positives.relations &&
              decoded.tails == batches.back().positives.tails,
          "triples change when they are encoded");
  }
  if (!responses.empty()) {
    const auto take = [&](const v1::SampleConfigured& answer) {
      negserve::check_configured("Sample", answer.fingerprint(), answer.sampler(),
                                 requests[0].configuration().expected_fingerprint(),
                                 requests[0].configuration().sampler(), 2);
    };
    using Answer = v1::SampleConfigured;
    const Answer& answer = responses[0].configured();
    take(answer);
    refused(answer, "configured.fingerprint", [](Answer& a) { a.set_fingerprint("0"); }, take);
    refused(answer, "configured.sampler",
            [](Answer& a) { a.mutable_sampler()->set_seed(a.sampler().seed() + 1); }, take);
    refused(answer, "configured.sampler",
            [](Answer& a) { a.mutable_sampler()->set_algorithm_version(3); }, take);
  }
  // A stream may end before its first answer.
  compare(one_case, requests.empty() ? v1::SamplerConfig() : requests[0].configuration().sampler(),
          batches);
}

void replay_epoch(const Struct& one_case, const negserve::IdSpaces& spaces) {
  const auto requests = messages<v1::SampleEpochRequest>(one_case, "requests");
  check(requests.size() == 1, "not one request");
  std::vector<Batch> batches;
  std::uint64_t num_positives = 0;
  // What the request would be for the epoch of the next batch, and batches of the epochs before it.
  v1::SampleEpochRequest request = requests[0];
  std::size_t num_before = 0;
  for (const auto& response : messages<v1::SampleEpochResponse>(one_case, "responses")) {
    if (response.has_configured()) {
      num_positives = response.configured().num_positives();
      const auto take = [&](const v1::EpochConfigured& answer) {
        negserve::check_epoch(answer, requests[0]);
      };
      take(response.configured());
      refused(response.configured(), "configured.num_batches",
              [](v1::EpochConfigured& a) { a.set_num_batches(a.num_batches() + 1); }, take);
    }
    for (const v1::EpochBatch& encoded : response.batches().batches()) {
      if (batches.size() - num_before == negserve::num_batches(request, num_positives)) {
        request.set_epoch(request.epoch() + 1);
        request.set_start(0);
        num_before = batches.size();
      }
      const negserve::Due due =
          negserve::due_batch(request, num_positives, batches.size() - num_before);
      const auto take = [&](const v1::EpochBatch& batch) {
        negserve::check_epoch_batch(batch, request, due);
      };
      take(encoded);
      refused(encoded, "batches.next_start",
              [](v1::EpochBatch& b) { b.set_next_start(b.next_start() + 1); }, take);
      batches.emplace_back();
      negserve::decode(encoded.positives(), batches.back().positives);
      negserve::check_positives(batches.back().positives, spaces);
      check_batch(encoded.negatives(), requests[0].sampler(), spaces, batches.back().positives,
                  request.epoch() * num_positives + due.begin);
      batches.back().encoded = encoded.negatives();
    }
  }
  compare(one_case, requests[0].sampler(), batches);
}

v1::Ids ids_of(std::initializer_list<std::uint8_t> bytes, std::uint32_t width) {
  v1::Ids ids;
  ids.mutable_data()->assign(bytes.begin(), bytes.end());
  ids.set_width(width);
  return ids;
}

// Returns the same answer, each value and each pair without values in a message of its own.
std::vector<v1::KnownResponse> divided(const v1::KnownResponse& answer, std::size_t num_pairs) {
  std::vector<v1::KnownResponse> parts;
  const std::size_t width = answer.values().width();
  std::size_t at = 0, pair = 0;
  for (const std::uint64_t count : negserve::decode_ids(answer.counts(), num_pairs)) {
    for (std::uint64_t i = 0; i < std::max<std::uint64_t>(count, 1); ++i) {
      v1::KnownResponse& part = parts.emplace_back();
      const std::uint8_t size = count == 0 ? 0 : 1;
      part.set_first_pair(static_cast<std::uint32_t>(answer.first_pair() + pair));
      *part.mutable_counts() = ids_of({size}, 1);
      part.mutable_values()->set_width(answer.values().width());
      part.mutable_values()->set_data(answer.values().data().substr(at, size * width));
      part.set_is_continued(i + 1 < count);
      at += size * width;
    }
    ++pair;
  }
  if (parts.empty()) parts.push_back(answer);
  return parts;
}

void replay_known(const Struct& one_case, const negserve::IdSpaces& spaces) {
  const auto requests = messages<v1::KnownRequest>(one_case, "requests");
  const auto responses = messages<v1::KnownResponse>(one_case, "responses");
  for (std::size_t i = 0; i < responses.size(); ++i) {
    const v1::Ids& first = requests[i + 1].pairs().first();
    const std::size_t num_pairs = first.data().size() / std::max(first.width(), 1U);
    const std::uint64_t num_ids = num_ids_of(requests[0].configuration().slot(), spaces);
    const auto joined = [&](const std::vector<v1::KnownResponse>& parts) {
      negserve::KnownValues known;
      negserve::KnownAnswer answer(known, num_pairs, num_ids);
      for (std::size_t at = 0; at < parts.size(); ++at) {
        check(answer.take(parts[at]) == (at + 1 == parts.size()), "the last message is another");
      }
      return known;
    };
    const auto take = [&](const v1::KnownResponse& answer) { joined({answer}); };
    const negserve::KnownValues whole = joined({responses[i]});
    const negserve::KnownValues other = joined(divided(responses[i], num_pairs));
    check(whole.counts == negserve::decode_ids(responses[i].counts(), num_pairs) &&
              whole.values == negserve::decode_ids(responses[i].values(), whole.values.size()),
          "other values");
    check(whole.counts == other.counts && whole.values == other.values,
          "a divided answer has other values");
    using Answer = v1::KnownResponse;
    refused(responses[i], "first_pair", [](Answer& a) { a.set_first_pair(1); }, take);
    refused(responses[i], "counts, number",
            [](Answer& a) { a.mutable_counts()->mutable_data()->append(1 + a.counts().width(), 0); },
            take);
    refused(responses[i], "values.data, bytes",
            [](Answer& a) { a.mutable_values()->mutable_data()->push_back(0); }, take);
    refused(responses[i], "values.width", [](Answer& a) { a.mutable_values()->set_width(3); }, take);
  }
}

// What no golden file has, since its answers are small.
void check_divided_answers() {
  const auto part = [](std::uint32_t first, std::initializer_list<std::uint8_t> counts,
                       std::initializer_list<std::uint8_t> values, bool is_continued) {
    v1::KnownResponse response;
    response.set_first_pair(first);
    *response.mutable_counts() = ids_of(counts, 1);
    *response.mutable_values() = ids_of(values, 1);
    response.set_is_continued(is_continued);
    return response;
  };
  const v1::KnownResponse begin = part(0, {1, 2}, {9, 3, 5}, true);
  const auto take = [&](const v1::KnownResponse& rest) {
    negserve::KnownValues known;
    negserve::KnownAnswer answer(known, 3, 20);
    check(!answer.take(begin), "the answer ends too early");
    check(answer.progress() == 4, "one pair and three values");
    check(answer.take(rest), "the answer is not complete");
    check(known.counts == std::vector<std::uint64_t>{1, 4, 1} &&
              known.values == std::vector<std::uint64_t>{9, 3, 5, 6, 19, 0},
          "values are joined wrongly");
    answer.drop();
    check(known.counts.empty() && known.values.empty(), "something is left");
  };
  const v1::KnownResponse rest = part(1, {2, 1}, {6, 19, 0}, false);
  take(rest);
  using Answer = v1::KnownResponse;
  refused(rest, "first_pair", [](Answer& a) { a.set_first_pair(2); }, take);
  refused(rest, "values[0]", [](Answer& a) { a.mutable_values()->mutable_data()->at(0) = 5; }, take);
  refused(rest, "values[1]", [](Answer& a) { a.mutable_values()->mutable_data()->at(1) = 6; }, take);
  refused(rest, "values", [](Answer& a) { a.mutable_values()->mutable_data()->at(1) = 20; }, take);
  refused(rest, "counts[0]", [&](Answer& a) { a = part(1, {0, 1}, {0}, false); }, take);
  refused(rest, "counts[0]", [&](Answer& a) { a = part(1, {21, 1}, {0}, false); }, take);
  refused(rest, "counts, number", [&](Answer& a) { a = part(1, {}, {}, true); }, take);
  refused(rest, "counts, number", [&](Answer& a) { a = part(1, {}, {}, false); }, take);
}

void replay_refusal(const Struct& one_case) {
  static const std::map<std::string, grpc::StatusCode> codes = {
      {"INVALID_ARGUMENT", grpc::StatusCode::INVALID_ARGUMENT},
      {"NOT_FOUND", grpc::StatusCode::NOT_FOUND},
      {"FAILED_PRECONDITION", grpc::StatusCode::FAILED_PRECONDITION},
      {"RESOURCE_EXHAUSTED", grpc::StatusCode::RESOURCE_EXHAUSTED},
      {"PERMISSION_DENIED", grpc::StatusCode::PERMISSION_DENIED},
      {"DATA_LOSS", grpc::StatusCode::DATA_LOSS},
  };
  static const std::map<std::string, std::string> names = {
      {"UNKNOWN_DATASET", "UnknownDatasetError"},
      {"FINGERPRINT_MISMATCH", "FingerprintMismatchError"},
      {"LIMIT_EXCEEDED", "LimitExceededError"},
      {"GRAPH_TOO_LARGE", "LimitExceededError"},
      {"PUBLISH_NOT_ALLOWED", "NotAllowedError"},
      {"CHECKSUM_MISMATCH", "ServerFaultError"},
  };
  const Struct& refusal = at(one_case, "error").struct_value();
  const std::string& reason = at(refusal, "reason").string_value();
  const auto code = codes.find(at(one_case, "status").string_value());
  check(code != codes.end(), "unexpected status of a refusal");
  const grpc::Status status(
      code->second, "", from_hex(at(refusal, "grpc-status-details-bin").string_value()));
  try {
    negserve::throw_status(status, "target");
  } catch (const negserve::Error& error) {
    const auto name = names.find(reason);
    check(error.name() == (name == names.end() ? "InvalidRequestError" : name->second),
          std::string("mapped to ") + error.name());
    check(error.reason() == reason, "reason is " + error.reason());
    const auto& metadata = at(refusal, "metadata").struct_value().fields();
    check(metadata.size() == error.metadata().size(), "another number of metadata");
    for (const auto& [key, value] : metadata) {
      const auto found = error.metadata().find(key);
      check(found != error.metadata().end(), "no metadata " + key);
      check(value.has_null_value() || found->second == value.string_value(),
            "metadata " + key + " differ");
    }
  }
}

// A status without a reason comes from gRPC or a proxy: whatever its code, a retry may succeed.
void check_statuses_of_others() {
  for (int code = 1; code <= 16; ++code) {
    const grpc::Status status(static_cast<grpc::StatusCode>(code), "reset by peer");
    try {
      negserve::throw_status(status, "target");
    } catch (const negserve::TransientError& error) {
      check(std::string(error.what()).find("reset by peer") != std::string::npos,
            "the message is lost");
    }
  }
  try {
    negserve::throw_status({grpc::StatusCode::RESOURCE_EXHAUSTED,
                            "Received message larger than max (5 vs. 4)"},
                           "target");
  } catch (const negserve::LimitExceededError&) {
  }
}

// Replays the cases of one file; returns their number.
int replay(const std::string& path) {
  std::ifstream file(path);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  Struct golden;
  check(google::protobuf::util::JsonStringToMessage(text, &golden).ok(), path + " is not JSON");
  const std::string& rpc = at(golden, "rpc").string_value();
  const negserve::IdSpaces spaces{
      static_cast<std::uint64_t>(at(golden, "num_entities").number_value()),
      static_cast<std::uint64_t>(at(golden, "num_relations").number_value())};
  for (const Value& each : at(golden, "cases").list_value().values()) {
    const Struct& one_case = each.struct_value();
    try {
      const bool is_refused = at(one_case, "status").string_value() != "OK";
      if (is_refused) {
        replay_refusal(one_case);
      } else if (rpc == "Sample") {
        replay_sample(one_case, spaces);
      } else if (rpc == "SampleEpoch") {
        replay_epoch(one_case, spaces);
      } else if (rpc == "Known") {
        replay_known(one_case, spaces);
      }
    } catch (const std::exception& error) {
      throw std::runtime_error(rpc + ", " + at(one_case, "name").string_value() + ": " +
                               error.what());
    }
  }
  return at(golden, "cases").list_value().values_size();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: golden_test FOLDER\n";
    return 2;
  }
  try {
    int num_cases = 0;
    for (const auto& file : std::filesystem::directory_iterator(argv[1])) {
      if (file.path().extension() == ".json") num_cases += replay(file.path());
    }
    check(num_cases > 0, "no golden files");
    check_statuses_of_others();
    check_divided_answers();
    std::cout << num_cases << " cases\n";
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
