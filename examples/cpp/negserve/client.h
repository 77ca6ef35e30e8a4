// The client: a server's datasets, and what can be had of them.
//
// Configurations are the messages of the interface (negserve/v1/sampler.proto), which says what
// each field means. Errors are in errors.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "negserve/connection.h"
#include "negserve/epoch_stream.h"
#include "negserve/errors.h"
#include "negserve/sampler.h"
#include "negserve/v1/sampler.pb.h"

namespace negserve {

// Connects on first use. Thread-safe; the streams and samplers that it gives are not, and may
// outlive it.
class Client {
 public:
  explicit Client(Options options);

  // Version, sampling functions and limits of the server.
  //
  // Throws an Error, as all methods do.
  v1::GetServerResponse server();

  // The datasets that the server holds, in the order of its options.
  std::vector<v1::Dataset> datasets();

  // Counts, splits, fingerprint and limits of one dataset.
  v1::GetDatasetResponse dataset(const std::string& name);

  // What an epoch has from `start` on.
  //
  // Without an expected fingerprint it is the dataset's of now that every server has to have, so
  // that no other graph goes on with the epoch.
  EpochStream epoch(v1::SampleEpochRequest request);

  // A sampler over a dataset; the expected fingerprint likewise.
  Sampler sampler(v1::SampleConfiguration configuration);

 private:
  std::shared_ptr<Connection> connection_;
};

}  // namespace negserve
