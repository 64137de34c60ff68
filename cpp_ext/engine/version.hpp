// One loaded bundle, answering requests (internal). An engine has one at a time; a swap puts
// another in its place, and the old one goes with the last request that runs on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "columns.hpp"
#include "runtime.hpp"
#include "shortlist/shortlist.h"

namespace shortlist::engine {

// What an answer points into.
struct Answer : shortlist_answer {
  std::vector<float> own_scores;
  std::vector<std::int64_t> own_rows, own_numbers, own_counts, own_sources;
  std::deque<std::string> own_bytes;  // of each batch, where ids are texts; they stay in place
  std::vector<shortlist_text> own_texts;
};

class Version {
 public:
  // Throws FileError for the bundle, RuntimeMissing for what ONNX Runtime lacks.
  Version(const Runtime& runtime, const std::string& path, std::size_t n_threads, bool check_hashes,
          std::uint64_t number);

  // Fills `answer`. Any number of threads at once.
  void recommend(const shortlist_requests& requests, Answer* answer) const;
  // One answer in which nothing is known, so that the first request finds everything in place.
  void warm() const;

  const BundleFolder& bundle() const { return bundle_; }
  bool has_texts() const { return has_texts_; }
  std::uint64_t number() const { return number_; }

 private:
  void open_session(std::size_t n_threads);
  void read_interface();
  void run(const std::vector<BoundColumn>& bound, const shortlist_requests& requests,
           std::size_t first, std::size_t n, Answer* answer) const;
  std::vector<Handle<OrtValue>> make_outputs(std::size_t top_n, std::size_t first, std::size_t n,
                                             Answer* answer) const;
  void keep_texts(const OrtValue* ids, std::size_t first, Answer* answer) const;
  Handle<OrtValue> over(void* data, std::size_t n, std::size_t width,
                        ONNXTensorElementDataType type) const;

  Runtime runtime_;
  const OrtApi& api_;
  BundleFolder bundle_;
  std::uint64_t number_;
  std::string graph_;  // how messages name recommend.onnx
  Handle<OrtEnv> environment_;
  Handle<OrtMemoryInfo> memory_;
  Handle<OrtSession> session_;
  std::vector<Input> inputs_;  // but for top_n
  bool has_texts_ = false;
};

}  // namespace shortlist::engine
