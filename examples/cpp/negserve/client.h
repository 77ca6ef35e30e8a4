// The client: a server's datasets, epochs, samplers and known values.
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
#include "negserve/known.h"
#include "negserve/sampler.h"
#include "negserve/v1/sampler.pb.h"

namespace negserve {

// Connects on first use. Thread-safe; its streams and samplers are not, and may outlive it.
class Client {
 public:
  explicit Client(Options options);

  // Version, sampling functions and limits of the server.
  //
  // Throws an Error, as all methods do.
  v1::GetServerResponse server();

  // The server's datasets, in the order of its options.
  std::vector<v1::Dataset> datasets();

  // Counts, splits, fingerprint and limits of one dataset.
  v1::GetDatasetResponse dataset(const std::string& name);

  // The epoch from `start` on.
  //
  // If no fingerprint is expected, the dataset's current one is required of every server, so that
  // no other graph continues the epoch.
  EpochStream epoch(v1::SampleEpochRequest request);

  // A sampler over a dataset; its fingerprint is required likewise.
  Sampler sampler(v1::SampleConfiguration configuration);

  // The known values of one slot for pairs of ids of the other two; the fingerprint is required
  // likewise.
  KnownValues known(v1::KnownConfiguration configuration, const Pairs& pairs);

 private:
  std::shared_ptr<Connection> connection_;
};

}  // namespace negserve
