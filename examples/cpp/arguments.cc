#include "arguments.h"

#include <charconv>
#include <chrono>
#include <functional>
#include <limits>
#include <map>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

const char* const kHelp = R"(usage: negserve-cpp COMMAND [OPTIONS]

A client of negserve in C++.

  negserve-cpp server                           version and limits
  negserve-cpp datasets                         names, counts, fingerprints
  negserve-cpp epoch DATASET                    the training triples with their negatives
  negserve-cpp bench DATASET                    negatives per second, as whole triples
  negserve-cpp sample DATASET H,R,T [H,R,T...]  negatives for the given triples

Server:
  --target T[,T...]   HOST:PORT or unix:PATH, several for replicas (127.0.0.1:7733)
  --timeout SECONDS   for a call, or a stream's next message (30)
  --patience SECONDS  for retries after a failure, on all replicas together (the timeout, once
                      for each replica)
  --fingerprint F     required fingerprint of the dataset (any)

Sampler:
  --kind KIND         basic, bernoulli, pseudotyped, typed, degree or mixture (basic)
  --mixture K:N,...   kinds and shares of kind mixture, such as bernoulli:3,typed:1
  -k N                negatives per positive (1)
  --scheme S,...      slots that may be replaced: head, relation, tail (head,tail)
  --filter S,...      splits whose triples are known: training, validation, testing (none)
  --filter-mode MODE  exact (known triples are never drawn) or mask (they are drawn and flagged)
                      (exact)
  --seed N            key of the generator (0)
  --alpha X           exponent of kind degree (0.75)
  --candidates ID,... the only entities that may be drawn (all)
  --distinct          draw no value twice for a positive and slot
  --chunk-size N      number of consecutive positions that share one set of values (1)

epoch and bench:
  --epoch N           number of the epoch (0)
  --start P           position within the epoch at which to begin (0)
  --batches N         end after N batches
  --batch-size N      positives of one batch of one rank (1024)
  --rank N --world-size N --worker N --num-workers N    which part of the epoch (all of it)
  --tail RULE         short, drop or wrap: how to treat the last positions (short)
  --keep-order        keep the order of the triples, without shuffling
  --relations ID,...  only triples of these relations (all)

bench:
  --seconds S         duration (3)

sample:
  --input FILE        positives as raw int64, in place of triples on the command line
  --position P        position of the first positive (0)

Output; FILE may be - for standard output. Without any of these, negatives are printed as lines:
head, relation, tail, and 1 if the negative is valid.
  --negatives FILE    whole triples, little-endian int64, shape (n, k, 3)
  --positives FILE    the positives, little-endian int64, shape (n, 3)
  --mask FILE         one byte for each negative, 1 where it is valid, shape (n, k)
  --log-q FILE        log probabilities, little-endian float32, shape (n, k)
  --weights FILE      subsampling weights of an epoch, little-endian float32, shape (n,)

The last line on standard error has counts, and where to resume an epoch (--start).
Exit status: 0 done, 1 refused or no server, 2 wrong usage.
)";

namespace {

using negserve::v1::SamplerConfig;
template <class Value>
using Names = std::map<std::string, Value>;

namespace v1 = negserve::v1;

const Names<v1::SamplerKind> kKinds = {
    {"basic", v1::SAMPLER_KIND_BASIC},       {"bernoulli", v1::SAMPLER_KIND_BERNOULLI},
    {"pseudotyped", v1::SAMPLER_KIND_PSEUDO_TYPED}, {"typed", v1::SAMPLER_KIND_TYPED},
    {"degree", v1::SAMPLER_KIND_DEGREE},     {"mixture", v1::SAMPLER_KIND_MIXTURE}};
const Names<v1::Slot> kSlots = {
    {"head", v1::SLOT_HEAD}, {"relation", v1::SLOT_RELATION}, {"tail", v1::SLOT_TAIL}};
const Names<v1::Split> kSplits = {{"training", v1::SPLIT_TRAINING},
                                  {"validation", v1::SPLIT_VALIDATION},
                                  {"testing", v1::SPLIT_TESTING}};
const Names<v1::FilterMode> kFilterModes = {{"exact", v1::FILTER_MODE_EXACT},
                                            {"mask", v1::FILTER_MODE_MASK}};
const Names<v1::TailRule> kTails = {{"short", v1::TAIL_RULE_SHORT},
                                    {"drop", v1::TAIL_RULE_DROP},
                                    {"wrap", v1::TAIL_RULE_WRAP}};

template <class Value>
Value look_up(const Names<Value>& names, const std::string& name) {
  const auto found = names.find(name);
  if (found != names.end()) return found->second;
  std::string all;
  for (const auto& [each, value] : names) all += (all.empty() ? "" : ", ") + each;
  throw UsageError("'" + name + "' is unknown; choose from " + all);
}

template <class Number>
Number number(std::string_view text) {
  Number result{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw UsageError("'" + std::string(text) + "' is not a number in range");
  }
  return result;
}

std::chrono::milliseconds seconds(const std::string& text) {
  const auto given = number<double>(text);
  if (!(given > 0 && given < 1e9)) {
    throw UsageError("'" + text + "' is not a positive number of seconds");
  }
  return std::chrono::milliseconds(static_cast<std::int64_t>(given * 1000 + 0.5));
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (;;) {
    const std::size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string::npos) return parts;
    begin = end + 1;
  }
}

void encode_ids(const std::string& text, v1::Ids& ids) {
  std::string data;
  for (const std::string& part : split(text, ',')) {
    auto id = number<std::uint64_t>(part);
    for (int byte = 0; byte < 8; ++byte, id >>= 8) data.push_back(static_cast<char>(id));
  }
  ids.set_data(data);
  ids.set_width(8);
}

void add_part(const std::string& text, SamplerConfig& config) {
  const std::vector<std::string> parts = split(text, ':');
  if (parts.size() != 2) throw UsageError("'" + text + "' is not KIND:SHARES, such as typed:1");
  v1::MixturePart& part = *config.add_mixture();
  part.set_kind(look_up(kKinds, parts[0]));
  part.set_shares(number<std::uint32_t>(parts[1]));
}

void add_triple(const std::string& text, negserve::Triples& triples) {
  const std::vector<std::string> ids = split(text, ',');
  if (ids.size() != 3) throw UsageError("'" + text + "' is not a triple; give head,relation,tail");
  triples.append(number<std::int64_t>(ids[0]), number<std::int64_t>(ids[1]),
                 number<std::int64_t>(ids[2]));
}

// A command-line option: whether it takes a value, and how it is stored.
struct Option {
  bool has_value;
  std::function<void(const std::string&)> set;
};

std::map<std::string, Option> options_into(Arguments& arguments) {
  negserve::Options& options = arguments.options;
  v1::SampleEpochRequest& request = arguments.request;
  SamplerConfig& config = *request.mutable_sampler();
  OutputPaths& outputs = arguments.outputs;
  using Text = const std::string&;
  return {
      {"--target", {true, [&](Text text) { options.targets = split(text, ','); }}},
      {"--timeout", {true, [&](Text text) { options.timeout = seconds(text); }}},
      {"--patience", {true, [&](Text text) { options.patience = seconds(text); }}},
      {"--fingerprint", {true, [&](Text text) { request.set_expected_fingerprint(text); }}},

      {"--kind", {true, [&](Text text) { config.set_kind(look_up(kKinds, text)); }}},
      {"--mixture", {true, [&](Text text) {
         for (Text part : split(text, ',')) add_part(part, config);
       }}},
      {"-k", {true, [&](Text text) { config.set_num_negs_per_pos(number<std::uint32_t>(text)); }}},
      {"--scheme", {true, [&](Text text) {
         for (Text name : split(text, ',')) config.add_corruption_scheme(look_up(kSlots, name));
       }}},
      {"--filter", {true, [&](Text text) {
         for (Text name : split(text, ',')) config.add_filter_splits(look_up(kSplits, name));
       }}},
      {"--filter-mode", {true, [&](Text text) {
         config.set_filter_mode(look_up(kFilterModes, text));
       }}},
      {"--seed", {true, [&](Text text) { config.set_seed(number<std::uint64_t>(text)); }}},
      {"--alpha", {true, [&](Text text) { config.set_alpha(number<double>(text)); }}},
      {"--candidates", {true, [&](Text text) { encode_ids(text, *config.mutable_candidates()); }}},
      {"--distinct", {false, [&](Text) { config.set_distinct(true); }}},
      {"--chunk-size", {true, [&](Text text) {
         config.set_chunk_size(number<std::uint32_t>(text));
       }}},

      {"--epoch", {true, [&](Text text) { request.set_epoch(number<std::uint64_t>(text)); }}},
      {"--start", {true, [&](Text text) { request.set_start(number<std::uint64_t>(text)); }}},
      {"--batches", {true, [&](Text text) { arguments.most_batches = number<std::uint64_t>(text); }}},
      {"--batch-size", {true, [&](Text text) {
         request.set_batch_size(number<std::uint32_t>(text));
       }}},
      {"--rank", {true, [&](Text text) { request.set_rank(number<std::uint32_t>(text)); }}},
      {"--world-size", {true, [&](Text text) {
         request.set_world_size(number<std::uint32_t>(text));
       }}},
      {"--worker", {true, [&](Text text) { request.set_worker(number<std::uint32_t>(text)); }}},
      {"--num-workers", {true, [&](Text text) {
         request.set_num_workers(number<std::uint32_t>(text));
       }}},
      {"--tail", {true, [&](Text text) { request.set_tail(look_up(kTails, text)); }}},
      {"--keep-order", {false, [&](Text) { request.set_keep_order(true); }}},
      {"--relations", {true, [&](Text text) { encode_ids(text, *request.mutable_relations()); }}},

      {"--seconds", {true, [&](Text text) { arguments.duration = seconds(text); }}},

      {"--input", {true, [&](Text text) { arguments.input = text; }}},
      {"--position", {true, [&](Text text) { arguments.position = number<std::uint64_t>(text); }}},

      {"--negatives", {true, [&](Text text) { outputs.negatives = text; }}},
      {"--positives", {true, [&](Text text) { outputs.positives = text; }}},
      {"--mask", {true, [&](Text text) { outputs.mask = text; }}},
      {"--log-q", {true, [&](Text text) {
         outputs.log_q = text;
         config.set_log_q(true);
       }}},
      {"--weights", {true, [&](Text text) {
         outputs.weights = text;
         request.set_weights(true);
       }}},
  };
}

}  // namespace

Arguments parse_arguments(int argc, char** argv) {
  Arguments arguments;
  arguments.request.set_batch_size(1024);
  arguments.request.mutable_sampler()->set_kind(v1::SAMPLER_KIND_BASIC);
  arguments.request.mutable_sampler()->set_num_negs_per_pos(1);
  const std::map<std::string, Option> options = options_into(arguments);
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--help" || word == "-h") {
      arguments.command = "help";
      return arguments;
    }
    if (word.size() < 2 || word[0] != '-') {
      words.push_back(word);
      continue;
    }
    const auto option = options.find(word);
    if (option == options.end()) throw UsageError("no option " + word);
    if (option->second.has_value && ++i == argc) throw UsageError(word + " needs a value");
    try {
      option->second.set(argv[i]);
    } catch (const UsageError& error) {
      throw UsageError(word + ": " + error.what());
    }
  }
  if (words.empty()) throw UsageError("no command; give server, datasets, epoch, bench or sample");
  arguments.command = words[0];
  const bool is_sample = words[0] == "sample";
  const bool is_about_server = words[0] == "server" || words[0] == "datasets";
  if (!is_sample && !is_about_server && words[0] != "epoch" && words[0] != "bench") {
    throw UsageError("no command " + words[0] + "; give server, datasets, epoch, bench or sample");
  }
  std::size_t num_read = 1;
  if (!is_about_server) {
    if (words.size() < 2) throw UsageError(words[0] + " needs a dataset");
    arguments.request.set_dataset(words[1]);
    num_read = 2;
  }
  if (is_sample) {
    for (; num_read < words.size(); ++num_read) add_triple(words[num_read], arguments.positives);
  }
  if (num_read < words.size()) throw UsageError("unexpected argument '" + words[num_read] + "'");
  if (is_sample && (arguments.positives.size() > 0) == !arguments.input.empty()) {
    throw UsageError("sample needs either triples or --input, not both");
  }
  return arguments;
}
