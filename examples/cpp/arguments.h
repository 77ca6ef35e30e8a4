// What the command line asks for.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "negserve/connection.h"
#include "negserve/triples.h"
#include "negserve/v1/sampler.pb.h"

// A command line that makes no sense.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Where results go: paths, `-` for standard output, empty for nowhere.
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
  // Of commands `epoch` and `bench`; its dataset, fingerprint and sampler are also those of `sample`.
  negserve::v1::SampleEpochRequest request;
  // Of command `epoch`: the most batches to take.
  std::optional<std::uint64_t> most_batches;
  // Of command `bench`.
  std::chrono::milliseconds duration{3'000};
  // Of command `sample`.
  std::uint64_t position = 0;
  negserve::Triples positives;
  std::string input;
  OutputPaths outputs;
};

// Throws UsageError.
Arguments parse_arguments(int argc, char** argv);

// What `--help` prints.
extern const char* const kHelp;
