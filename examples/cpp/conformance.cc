// Performs tasks of `python -m negserve.conformance`, one line of JSON each: docs/clients.md.
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>

#include "negserve/client.h"

namespace {

namespace v1 = negserve::v1;
using google::protobuf::ListValue;
using google::protobuf::Message;
using google::protobuf::Struct;
using google::protobuf::Value;

void parse(const std::string& json, Message& message) {
  const auto status = google::protobuf::util::JsonStringToMessage(json, &message);
  if (!status.ok()) throw std::runtime_error("not a message of this type: " + json);
}

const Value& at(const Struct& object, const std::string& key) { return object.fields().at(key); }

// A protocol message that is part of a task.
template <class Part>
Part part(const Struct& task, const std::string& key) {
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(at(task, key).struct_value(), &json).ok()) {
    throw std::runtime_error("not an object: " + key);
  }
  Part message;
  parse(json, message);
  return message;
}

void add(ListValue& list, std::int64_t number) {
  list.add_values()->set_number_value(static_cast<double>(number));
}

void add_triple(ListValue& list, const negserve::Triples& triples, std::size_t i) {
  ListValue& triple = *list.add_values()->mutable_list_value();
  add(triple, triples.heads[i]);
  add(triple, triples.relations[i]);
  add(triple, triples.tails[i]);
}

// Adds n lists of k triples, and n lists of k flags.
void add_negatives(Struct& batch, const negserve::Negatives& negatives) {
  ListValue& rows = *(*batch.mutable_fields())["negatives"].mutable_list_value();
  ListValue& mask = *(*batch.mutable_fields())["mask"].mutable_list_value();
  for (std::size_t i = 0; i < negatives.num_positives; ++i) {
    ListValue& row = *rows.add_values()->mutable_list_value();
    ListValue& flags = *mask.add_values()->mutable_list_value();
    for (std::size_t j = 0; j < negatives.num_negs_per_pos; ++j) {
      const std::size_t index = i * negatives.num_negs_per_pos + j;
      add_triple(row, negatives.triples, index);
      add(flags, negatives.is_valid(index));
    }
  }
}

void sample(negserve::Client& client, const Struct& task, ListValue& batches) {
  negserve::Sampler sampler = client.sampler(part<v1::SampleConfiguration>(task, "configuration"));
  for (const Value& each : at(task, "messages").list_value().values()) {
    const Struct& message = each.struct_value();
    negserve::Triples positives;
    for (const Value& row : at(message, "triples").list_value().values()) {
      const auto id = [&](int slot) {
        return static_cast<std::int64_t>(row.list_value().values(slot).number_value());
      };
      positives.append(id(0), id(1), id(2));
    }
    const std::uint64_t position = std::stoull(at(message, "position").string_value());
    add_negatives(*batches.add_values()->mutable_struct_value(),
                  sampler.sample(positives, position));
  }
}

void stream(negserve::Client& client, const Struct& task, ListValue& batches) {
  negserve::EpochStream epoch = client.epoch(part<v1::SampleEpochRequest>(task, "request"));
  for (negserve::EpochBatch batch; epoch.next(batch);) {
    Struct& object = *batches.add_values()->mutable_struct_value();
    auto& fields = *object.mutable_fields();
    fields["nextStart"].set_string_value(std::to_string(batch.next_start));
    ListValue& positives = *fields["positives"].mutable_list_value();
    for (std::size_t i = 0; i < batch.positives.size(); ++i) {
      add_triple(positives, batch.positives, i);
    }
    add_negatives(object, batch.negatives);
  }
}

// Adds for each message a list of values for each of its pairs.
void find_known(negserve::Client& client, const Struct& task, ListValue& answers) {
  const auto configuration = part<v1::KnownConfiguration>(task, "configuration");
  for (const Value& each : at(task, "messages").list_value().values()) {
    negserve::Pairs pairs;
    for (const Value& row : at(each.struct_value(), "pairs").list_value().values()) {
      const auto& ids = row.list_value().values();
      pairs.first.push_back(static_cast<std::int64_t>(ids[0].number_value()));
      pairs.second.push_back(static_cast<std::int64_t>(ids[1].number_value()));
    }
    const negserve::KnownValues known = client.known(configuration, pairs);
    ListValue& answer = *answers.add_values()->mutable_list_value();
    std::size_t index = 0;
    for (const std::uint64_t count : known.counts) {
      ListValue& values = *answer.add_values()->mutable_list_value();
      for (const std::size_t end = index + count; index < end; ++index) {
        add(values, static_cast<std::int64_t>(known.values[index]));
      }
    }
  }
}

void perform(const Struct& task, Struct& result) {
  negserve::Options options;
  options.targets = {at(task, "target").string_value()};
  negserve::Client client(options);
  const std::string& name = at(task, "task").string_value();
  auto& fields = *result.mutable_fields();
  if (name == "server") {
    const v1::GetServerResponse answer = client.server();
    fields["version"].set_string_value(answer.version());
    ListValue& versions = *fields["algorithmVersions"].mutable_list_value();
    for (const std::uint32_t version : answer.algorithm_versions()) add(versions, version);
  } else if (name == "datasets") {
    ListValue& names = *fields["datasets"].mutable_list_value();
    for (const v1::Dataset& dataset : client.datasets()) {
      names.add_values()->set_string_value(dataset.name());
    }
  } else if (name == "sample") {
    sample(client, task, *fields["batches"].mutable_list_value());
  } else if (name == "epoch") {
    stream(client, task, *fields["batches"].mutable_list_value());
  } else if (name == "known") {
    find_known(client, task, *fields["known"].mutable_list_value());
  } else {
    fields["leftOut"].set_bool_value(true);
  }
}

}  // namespace

int main() {
  try {
    for (std::string line; std::getline(std::cin, line);) {
      Struct task, result;
      parse(line, task);
      try {
        perform(task, result);
      } catch (const negserve::Error& error) {
        result.Clear();
        auto& said = *(*result.mutable_fields())["error"].mutable_struct_value()->mutable_fields();
        said["reason"].set_string_value(error.reason());
        auto& metadata = *said["metadata"].mutable_struct_value()->mutable_fields();
        for (const auto& [key, value] : error.metadata()) metadata[key].set_string_value(value);
      }
      (*result.mutable_fields())["id"] = at(task, "id");
      std::string json;
      if (!google::protobuf::util::MessageToJsonString(result, &json).ok()) return 1;
      std::cout << json << std::endl;
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "negserve-conformance: " << error.what() << '\n';
    return 1;
  }
}
