#include "negserve/epoch_stream.h"

#include <utility>

#include "negserve/stream_reader.h"
#include "negserve/tensors.h"

namespace negserve {
namespace {

// A message holds about 400 KB of small batches, or one batch.
constexpr std::size_t kReadAhead = 4;

}  // namespace

// One open call.
class EpochStream::Call final
    : public StreamReader<grpc::ClientReadReactor<v1::SampleEpochResponse>,
                          v1::SampleEpochResponse> {
 public:
  Call(std::shared_ptr<Replica> replica, const v1::SampleEpochRequest& request)
      : StreamReader(std::move(replica), kReadAhead), request_(request) {
    this->replica()->stub->async()->SampleEpoch(&context_, &request_, this);
    start();
  }
  ~Call() override { close(); }

  // Whether the server's first message, with the number of batches, has arrived.
  bool is_configured = false;

 private:
  const v1::SampleEpochRequest request_;
};

EpochStream::EpochStream(std::shared_ptr<Connection> connection, v1::SampleEpochRequest request,
                         const IdSpaces& spaces)
    : connection_(std::move(connection)),
      request_(std::move(request)),
      budget_(connection_->budget()),
      spaces_(spaces) {
  request_.set_num_epochs(1);
}

EpochStream::~EpochStream() = default;
EpochStream::EpochStream(EpochStream&&) noexcept = default;
EpochStream& EpochStream::operator=(EpochStream&&) noexcept = default;

bool EpochStream::next(EpochBatch& batch) {
  if (is_at_end_) return false;
  if (num_taken_ == message_.batches().batches_size() && !receive()) {
    is_at_end_ = true;
    call_.reset();
    return false;
  }
  take(batch);
  return true;
}

bool EpochStream::receive() {
  // The caller's own time between two calls of next() does not count.
  budget_.note_progress();
  bool is_started = false;
  for (;;) {
    if (call_ && call_->is_configured && num_left_ == 0) return false;
    const std::shared_ptr<Replica> replica = call_ ? call_->replica() : connection_->replica();
    try {
      if (!call_) {
        call_ = std::make_unique<Call>(replica, request_);
        is_started = true;
      }
      if (!call_->next(message_, budget_.limit())) {
        // The stream ended with OK before all batches arrived: open another at once, unless this
        // one was new.
        call_.reset();
        if (is_started) {
          throw UnavailableError(replica->target + ": the stream was ended without a batch");
        }
        continue;
      }
      num_taken_ = 0;
      if (!call_->is_configured) {
        configure();
        call_->is_configured = true;
        continue;
      }
      check_message();
      return true;
    } catch (const TransientError& error) {
      num_taken_ = 0;
      message_.Clear();
      call_.reset();
      connection_->pause_after(error, *replica, budget_);
    } catch (const UnknownDatasetError& error) {
      num_taken_ = 0;
      message_.Clear();
      call_.reset();
      connection_->ask_another(error, *replica, budget_);
    }
  }
}

void EpochStream::configure() {
  if (!message_.has_configured()) {
    throw InvalidAnswerError("SampleEpoch", "message", "another", "configured");
  }
  const v1::EpochConfigured& configured = message_.configured();
  algorithm_version_ = check_configured("SampleEpoch", configured.fingerprint(),
                                        configured.sampler(), request_.expected_fingerprint(),
                                        request_.sampler(), algorithm_version_);
  check_epoch(configured, request_);
  num_positives_ = configured.num_positives();
  num_left_ = configured.num_batches();
}

void EpochStream::check_message() const {
  const auto& batches = message_.batches().batches();
  if (batches.empty() || static_cast<std::uint64_t>(batches.size()) > num_left_) {
    throw InvalidAnswerError("SampleEpoch", "batches", std::to_string(batches.size()),
                             "1 to " + std::to_string(num_left_));
  }
  for (int index = 0; index < batches.size(); ++index) {
    const v1::EpochBatch& batch = batches[index];
    const Due due = due_batch(request_, num_positives_, index);
    check_epoch_batch(batch, request_, due);
    Triples positives;
    decode(batch.positives(), positives);
    check_positives(positives, spaces_);
    check_batch("SampleEpoch", batch.negatives(), request_.sampler(), spaces_, positives, 0, due.size,
                request_.epoch() * num_positives_ + due.begin);
  }
}

void EpochStream::take(EpochBatch& batch) {
  const v1::EpochBatch& encoded = message_.batches().batches(num_taken_);
  batch.next_start = encoded.next_start();
  decode(encoded.positives(), batch.positives);
  const std::size_t num_positives = batch.positives.size();
  batch.negatives.reset(num_positives, request_.sampler());
  expand(encoded.negatives(), request_.sampler(), batch.positives, 0, batch.negatives);
  const std::size_t num_weights = request_.weights() ? num_positives : 0;
  batch.weights.resize(num_weights);
  for (std::size_t i = 0; i < num_weights; ++i) {
    batch.weights[i] = load_float(encoded.weights().data() + 4 * i);
  }
  ++num_taken_;
  --num_left_;
  request_.set_start(batch.next_start);
  // Counted from the new start, this worker's next batch is the last in a round of workers.
  if (request_.num_workers() > 1) request_.set_worker(request_.num_workers() - 1);
}

}  // namespace negserve
