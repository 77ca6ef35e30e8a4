// The parsed command line.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "negserve/connection.h"
#include "negserve/triples.h"
#include "negserve/v1/sampler.pb.h"

// A mistake in the command line.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Paths of the outputs: `-` for standard output, empty for none.
struct OutputPaths {
  std::string positives, negatives, mask, log_q, weights;

  bool is_empty() const {
    return (positives + negatives + mask + log_q + weights).empty();
  }
};

struct Arguments {
  // `datasets`, `epoch`, `bench`, `sample` or `help`.
  std::string command;
  negserve::Options options;
  // For commands `epoch` and `bench`; `sample` uses its dataset, fingerprint and sampler.
  negserve::v1::SampleEpochRequest request;
  // For command `epoch`: the maximum number of batches.
  std::optional<std::uint64_t> most_batches;
  // For command `bench`.
  std::chrono::milliseconds duration{3'000};
  // For command `sample`.
  std::uint64_t position = 0;
  negserve::Triples positives;
  std::string input;
  OutputPaths outputs;
};

// Throws UsageError.
Arguments parse_arguments(int argc, char** argv);

// What `--help` prints.
extern const char* const kHelp;
