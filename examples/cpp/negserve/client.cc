#include "negserve/client.h"

#include <utility>

namespace negserve {

Client::Client(Options options) : connection_(std::make_shared<Connection>(std::move(options))) {}

v1::GetServerResponse Client::server() {
  v1::GetServerResponse answer =
      connection_->call(&v1::SamplerService::Stub::GetServer, v1::GetServerRequest());
  check_server(answer);
  return answer;
}

std::vector<v1::Dataset> Client::datasets() {
  std::vector<v1::Dataset> datasets;
  for (const v1::ListDatasetsResponse& piece :
       connection_->read(&v1::SamplerService::Stub::ListDatasets, v1::ListDatasetsRequest())) {
    datasets.insert(datasets.end(), piece.datasets().begin(), piece.datasets().end());
  }
  return datasets;
}

v1::GetDatasetResponse Client::dataset(const std::string& name) {
  v1::GetDatasetRequest request;
  request.set_dataset(name);
  v1::GetDatasetResponse answer =
      connection_->call(&v1::SamplerService::Stub::GetDataset, request);
  check_dataset(answer, name);
  return answer;
}

EpochStream Client::epoch(v1::SampleEpochRequest request) {
  const v1::GetDatasetResponse answer = dataset(request.dataset());
  if (request.expected_fingerprint().empty()) {
    request.set_expected_fingerprint(answer.dataset().fingerprint());
  }
  const IdSpaces spaces{answer.dataset().num_entities(), answer.dataset().num_relations()};
  return EpochStream(connection_, std::move(request), spaces);
}

Sampler Client::sampler(v1::SampleConfiguration configuration) {
  const v1::GetDatasetResponse answer = dataset(configuration.dataset());
  if (configuration.expected_fingerprint().empty()) {
    configuration.set_expected_fingerprint(answer.dataset().fingerprint());
  }
  return Sampler(connection_, std::move(configuration), answer);
}

KnownValues Client::known(v1::KnownConfiguration configuration, const Pairs& pairs) {
  const v1::GetDatasetResponse answer = dataset(configuration.dataset());
  if (configuration.expected_fingerprint().empty()) {
    configuration.set_expected_fingerprint(answer.dataset().fingerprint());
  }
  return find_known(*connection_, configuration, answer, pairs);
}

}  // namespace negserve
