#include "negserve/sampler.h"

#include <algorithm>
#include <iostream>
#include <limits>
#include <utility>

#include "negserve/request_stream.h"

namespace negserve {
namespace {

std::size_t positives_per_message(const v1::Limits& limits, const v1::SamplerConfig& config) {
  const std::size_t most = limits.max_negatives_per_message() / (config.log_q() ? 2 : 1);
  const std::size_t fitting = most / std::max<std::size_t>(config.num_negs_per_pos(), 1);
  return std::clamp<std::size_t>(fitting, 1, std::max(limits.max_triples_per_message(), 1u));
}

// Prints a notice of the server, without characters that could steer a terminal.
void write_notice(const v1::Notice& notice) {
  std::string text = notice.text().substr(0, 1000);
  for (char& each : text) {
    if (static_cast<unsigned char>(each) < 0x20 || each == 0x7f) each = ' ';
  }
  std::cerr << "negserve: " << text << std::endl;
}

// Kinds of notices that are reported: a bound, since a server may send any number.
constexpr std::size_t kMostKinds = 16;

}  // namespace

// One open call.
class Sampler::Call final : public RequestStream<v1::SampleRequest, v1::SampleResponse> {
 public:
  // Throws an Error if the server refuses the configuration.
  Call(std::shared_ptr<Replica> asked, const v1::SampleConfiguration& configuration,
       std::uint32_t& algorithm_version, std::chrono::milliseconds timeout)
      : RequestStream(std::move(asked)) {
    replica()->stub->async()->Sample(&context_, this);
    start();
    try {
      v1::SampleRequest request;
      *request.mutable_configuration() = configuration;
      send(std::move(request));
      v1::SampleResponse response;
      receive(response, timeout);
      if (!response.has_configured()) {
        throw InvalidAnswerError("Sample", "message", "another", "configured");
      }
      const v1::SampleConfigured& configured = response.configured();
      algorithm_version = check_configured(
          "Sample", configured.fingerprint(), configured.sampler(),
          configuration.expected_fingerprint(), configuration.sampler(), algorithm_version);
    } catch (...) {
      close();
      throw;
    }
  }
  ~Call() override { close(); }
};

Sampler::Sampler(std::shared_ptr<Connection> connection, v1::SampleConfiguration configuration,
                 const v1::GetDatasetResponse& dataset)
    : on_notice(write_notice),
      connection_(std::move(connection)),
      configuration_(std::move(configuration)),
      step_(positives_per_message(dataset.limits(), configuration_.sampler())),
      spaces_{dataset.dataset().num_entities(), dataset.dataset().num_relations()} {}

Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;

Negatives Sampler::sample(const Triples& positives, std::uint64_t position) {
  const std::uint64_t last = std::numeric_limits<std::uint64_t>::max();
  if (positives.size() > 0 && position > last - (positives.size() - 1)) {
    throw InvalidRequestError(std::to_string(positives.size()) + " positives from position " +
                                  std::to_string(position) + " exceed the range 0 to " +
                                  std::to_string(last) + "; start at a smaller position",
                              "POSITION_OUT_OF_RANGE");
  }
  Negatives negatives;
  negatives.reset(positives.size(), configuration_.sampler());
  RetryBudget budget = connection_->budget();
  std::size_t num_answered = 0;
  for (;;) {
    const std::shared_ptr<Replica> replica = call_ ? call_->replica() : connection_->replica();
    try {
      if (!call_) {
        call_ = std::make_unique<Call>(replica, configuration_, algorithm_version_, budget.limit());
      }
      exchange(positives, position, negatives, num_answered, budget);
      return negatives;
    } catch (const TransientError& error) {
      call_.reset();
      connection_->pause_after(error, *replica, budget);
    } catch (const UnknownDatasetError& error) {
      call_.reset();
      connection_->ask_another(error, *replica, budget);
    } catch (...) {
      call_.reset();
      throw;
    }
  }
}

void Sampler::exchange(const Triples& positives, std::uint64_t position, Negatives& negatives,
                       std::size_t& num_answered, RetryBudget& budget) {
  // An empty message is sent even without positives: the server then checks the configuration.
  const std::size_t num_parts = std::max<std::size_t>((positives.size() + step_ - 1) / step_, 1);
  std::size_t num_sent = num_answered;
  v1::SampleResponse response;
  while (num_answered < num_parts) {
    for (; num_sent < std::min(num_answered + kAhead, num_parts); ++num_sent) {
      call_->send(request(positives, position, num_sent));
    }
    call_->receive(response, budget.limit());
    const std::size_t begin = num_answered * step_;
    const std::size_t due = std::min(step_, positives.size() - begin);
    if (!response.has_batch()) throw InvalidAnswerError("Sample", "message", "another", "batch");
    check_batch("Sample", response.batch(), configuration_.sampler(), spaces_, positives, begin, due,
                position + begin);
    expand(response.batch(), configuration_.sampler(), positives, begin, negatives);
    ++num_answered;
    budget.note_progress();
    tell(response);
  }
}

void Sampler::tell(const v1::SampleResponse& response) {
  for (const v1::Notice& notice : response.notices()) {
    if (told_.size() < kMostKinds && told_.insert(notice.kind()).second && on_notice) {
      on_notice(notice);
    }
  }
}

v1::SampleRequest Sampler::request(const Triples& positives, std::uint64_t position,
                                   std::size_t part) const {
  const std::size_t begin = part * step_;
  const std::size_t end = std::min(begin + step_, positives.size());
  v1::SampleRequest request;
  request.mutable_positives()->set_position(position + begin);
  encode(positives, begin, end, *request.mutable_positives()->mutable_triples());
  return request;
}

}  // namespace negserve
