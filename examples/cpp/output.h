// Writes results, as raw tensors or as text.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "arguments.h"
#include "negserve/negatives.h"
#include "negserve/triples.h"

// Makes untrusted text safe to show: control characters, and those that change the direction of
// text, become \uXXXX. UTF-8 in and out.
std::string printable(const std::string& text);

// A file, or standard output, or nothing. Throws std::system_error if it can't be written.
class Sink {
 public:
  // path: `-` for standard output, empty for nothing
  explicit Sink(const std::string& path);

  explicit operator bool() const { return file_ != nullptr; }
  void write(const std::string& data);
  // Reports errors that closing the file would hide.
  void flush();

 private:
  struct Closer {
    void operator()(std::FILE* file) const;
  };
  std::string path_;
  std::unique_ptr<std::FILE, Closer> file_;
};

// Writes batches to the files that the command line names; without any, prints lines of text.
class Output {
 public:
  explicit Output(const OutputPaths& paths);

  // weights: empty unless the batch has them
  void write(const negserve::Triples& positives, const negserve::Negatives& negatives,
             const std::vector<float>& weights);
  void flush();

 private:
  Sink text_, positives_, negatives_, mask_, log_q_, weights_;
};

// Reads triples from little-endian int64, shape (n, 3). Throws UsageError.
negserve::Triples read_triples(const std::string& path);
