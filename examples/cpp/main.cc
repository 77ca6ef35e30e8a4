// The command-line program: parse arguments, call the server, write the results.
#include <chrono>
#include <cstdint>
#include <exception>
#include <iostream>
#include <utility>

#include "arguments.h"
#include "negserve/client.h"
#include "output.h"

namespace {

// Counts of what was received.
struct Totals {
  std::uint64_t num_batches = 0, num_positives = 0, num_negatives = 0, num_saturated = 0;

  void add(const negserve::Negatives& negatives) {
    ++num_batches;
    num_positives += negatives.num_positives;
    num_negatives += negatives.size();
    num_saturated += negatives.num_saturated;
  }
};

std::ostream& operator<<(std::ostream& stream, const Totals& totals) {
  return stream << totals.num_batches << " batches, " << totals.num_positives << " positives, "
                << totals.num_negatives << " negatives, " << totals.num_saturated << " saturated";
}

void describe_server(negserve::Client& client) {
  const negserve::v1::GetServerResponse answer = client.server();
  std::cout << answer.version() << "\tsampling function";
  for (const std::uint32_t version : answer.algorithm_versions()) std::cout << ' ' << version;
  std::cout << '\n' << answer.limits().DebugString();
}

void list_datasets(negserve::Client& client) {
  for (const negserve::v1::Dataset& dataset : client.datasets()) {
    std::cout << printable(dataset.name()) << '\t' << dataset.num_entities() << " entities\t"
              << dataset.num_relations() << " relations\t"
              << (dataset.splits().empty() ? 0 : dataset.splits(0).num_triples())
              << " training triples\t" << dataset.fingerprint() << '\n';
  }
}

void stream_epoch(negserve::Client& client, const Arguments& arguments) {
  Output output(arguments.outputs);
  negserve::EpochStream epoch = client.epoch(arguments.request);
  negserve::EpochBatch batch;
  Totals totals;
  while (totals.num_batches != arguments.most_batches && epoch.next(batch)) {
    output.write(batch.positives, batch.negatives, batch.weights);
    totals.add(batch.negatives);
  }
  output.flush();
  std::cerr << totals << ", next start " << epoch.next_start() << '\n';
}

// Rebuilds the negatives of epochs for some time, and prints the rate.
void bench(negserve::Client& client, const Arguments& arguments) {
  using Clock = std::chrono::steady_clock;
  negserve::v1::SampleEpochRequest request = arguments.request;
  negserve::EpochStream epoch = client.epoch(request);
  negserve::EpochBatch batch;
  epoch.next(batch);  // connecting is not counted
  std::uint64_t num_negatives = 0;
  const Clock::time_point begin = Clock::now();
  std::chrono::duration<double> elapsed{};
  do {
    if (epoch.next(batch)) {
      num_negatives += batch.negatives.size();
    } else {
      request.set_epoch(request.epoch() + 1);
      epoch = client.epoch(request);
    }
    elapsed = Clock::now() - begin;
  } while (elapsed < arguments.duration);
  std::cout << static_cast<std::uint64_t>(num_negatives / elapsed.count())
            << " negatives per second\n";
}

void sample(negserve::Client& client, const Arguments& arguments) {
  Output output(arguments.outputs);
  const negserve::Triples positives =
      arguments.input.empty() ? arguments.positives : read_triples(arguments.input);
  negserve::v1::SampleConfiguration configuration;
  configuration.set_dataset(arguments.request.dataset());
  configuration.set_expected_fingerprint(arguments.request.expected_fingerprint());
  *configuration.mutable_sampler() = arguments.request.sampler();
  negserve::Sampler sampler = client.sampler(std::move(configuration));
  const negserve::Negatives negatives = sampler.sample(positives, arguments.position);
  output.write(positives, negatives, {});
  output.flush();
  Totals totals;
  totals.add(negatives);
  std::cerr << totals << '\n';
}

void run(Arguments arguments) {
  arguments.options.on_retry = [](const negserve::Error& error) {
    std::cerr << "retrying after " << error.name() << ": " << printable(error.what()) << std::endl;
  };
  negserve::Client client(arguments.options);
  if (arguments.command == "server") return describe_server(client);
  if (arguments.command == "datasets") return list_datasets(client);
  if (arguments.command == "epoch") return stream_epoch(client, arguments);
  if (arguments.command == "bench") return bench(client, arguments);
  sample(client, arguments);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Arguments arguments = parse_arguments(argc, argv);
    if (arguments.command == "help") {
      std::cout << kHelp;
      return 0;
    }
    run(arguments);
    return 0;
  } catch (const UsageError& error) {
    std::cerr << "negserve-cpp: " << error.what() << "; see --help\n";
    return 2;
  } catch (const negserve::Error& error) {
    std::cerr << error.name() << ": " << printable(error.what()) << '\n';
    if (!error.reason().empty()) std::cerr << "  reason: " << printable(error.reason()) << '\n';
    for (const auto& [key, value] : error.metadata()) {
      std::cerr << "  " << printable(key) << ": " << printable(value) << '\n';
    }
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "negserve-cpp: " << error.what() << '\n';
    return 1;
  }
}
