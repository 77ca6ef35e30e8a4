#include "output.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <system_error>

#include "negserve/tensors.h"

namespace {

using negserve::Triples;

constexpr std::size_t kTripleBytes = 3 * sizeof(std::int64_t);

std::string encode_triples(const Triples& triples) {
  std::string data(triples.size() * kTripleBytes, '\0');
  for (std::size_t i = 0; i < triples.size(); ++i) {
    char* place = &data[i * kTripleBytes];
    negserve::store<8>(place, static_cast<std::uint64_t>(triples.heads[i]));
    negserve::store<8>(place + 8, static_cast<std::uint64_t>(triples.relations[i]));
    negserve::store<8>(place + 16, static_cast<std::uint64_t>(triples.tails[i]));
  }
  return data;
}

std::string encode_floats(const std::vector<float>& numbers) {
  std::string data(numbers.size() * 4, '\0');
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, &numbers[i], sizeof bits);
    negserve::store<4>(&data[i * 4], bits);
  }
  return data;
}

std::string encode_mask(const negserve::Negatives& negatives) {
  std::string data(negatives.size(), '\0');
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = negatives.is_valid(i) ? 1 : 0;
  return data;
}

std::string lines_of(const negserve::Negatives& negatives) {
  std::string text;
  for (std::size_t i = 0; i < negatives.size(); ++i) {
    text += std::to_string(negatives.triples.heads[i]) + '\t' +
            std::to_string(negatives.triples.relations[i]) + '\t' +
            std::to_string(negatives.triples.tails[i]) + '\t' +
            (negatives.is_valid(i) ? "1\n" : "0\n");
  }
  return text;
}

}  // namespace

void Sink::Closer::operator()(std::FILE* file) const {
  if (file != stdout) std::fclose(file);
}

Sink::Sink(const std::string& path) : path_(path) {
  if (path.empty()) return;
  file_.reset(path == "-" ? stdout : std::fopen(path.c_str(), "wb"));
  if (!file_) throw std::system_error(errno, std::generic_category(), path_);
}

void Sink::write(const std::string& data) {
  if (file_ && std::fwrite(data.data(), 1, data.size(), file_.get()) != data.size()) {
    throw std::system_error(errno, std::generic_category(), path_);
  }
}

void Sink::flush() {
  if (file_ && std::fflush(file_.get()) != 0) {
    throw std::system_error(errno, std::generic_category(), path_);
  }
}

Output::Output(const OutputPaths& paths)
    : text_(paths.is_empty() ? "-" : ""),
      positives_(paths.positives),
      negatives_(paths.negatives),
      mask_(paths.mask),
      log_q_(paths.log_q),
      weights_(paths.weights) {}

void Output::write(const Triples& positives, const negserve::Negatives& negatives,
                   const std::vector<float>& weights) {
  if (text_) text_.write(lines_of(negatives));
  if (positives_) positives_.write(encode_triples(positives));
  if (negatives_) negatives_.write(encode_triples(negatives.triples));
  if (mask_) mask_.write(encode_mask(negatives));
  if (log_q_) log_q_.write(encode_floats(negatives.log_q));
  if (weights_) weights_.write(encode_floats(weights));
}

std::string printable(const std::string& text) {
  std::string shown;
  for (std::size_t i = 0; i < text.size();) {
    // Escaped characters have one byte, two or three; all other bytes are copied.
    const auto byte = [&](std::size_t at) -> unsigned {
      return i + at < text.size() ? static_cast<unsigned char>(text[i + at]) : 0u;
    };
    unsigned character = byte(0);
    std::size_t length = 1;
    if (byte(0) >> 5 == 6) {
      character = (byte(0) & 0x1f) << 6 | (byte(1) & 0x3f);
      length = 2;
    } else if (byte(0) >> 4 == 14) {
      character = (byte(0) & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f);
      length = 3;
    }
    const bool is_control = character < 0x20 || character == 0x7f ||
                            (length == 2 && character < 0xa0) || character == 0x61c ||
                            character == 0x200e || character == 0x200f ||
                            (0x2028 <= character && character <= 0x202e) ||
                            (0x2066 <= character && character <= 0x2069);
    if (is_control) {
      char escaped[7];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", character & 0xffff);
      shown += escaped;
    } else {
      shown += text.substr(i, length);
    }
    i += length;
  }
  return shown;
}

void Output::flush() {
  for (Sink* sink : {&text_, &positives_, &negatives_, &mask_, &log_q_, &weights_}) sink->flush();
}

Triples read_triples(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string data((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) throw UsageError("can't read " + path);
  if (data.size() % kTripleBytes != 0) {
    throw UsageError(path + " has " + std::to_string(data.size()) +
                     " bytes; give a whole number of triples of 24 bytes");
  }
  Triples triples;
  for (const char* place = data.data(); place < data.data() + data.size(); place += kTripleBytes) {
    triples.append(negserve::load_id<8>(place), negserve::load_id<8>(place + 8),
                   negserve::load_id<8>(place + 16));
  }
  return triples;
}
