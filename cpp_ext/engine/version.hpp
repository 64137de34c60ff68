// One loaded bundle, answering requests (internal). An engine has one at a time; a swap puts
// another in its place, and the old one goes with the last request that runs on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "columns.hpp"
#include "graph.hpp"
#include "joined.hpp"
#include "runtime.hpp"
#include "shortlist/filter.hpp"
#include "shortlist/shortlist.h"
#include "stored_users.hpp"

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

  // Fills `answer`. Any number of threads at once. `filter` has rows of index(), for all requests.
  void recommend(const shortlist_requests& requests, const Filter& filter, Answer* answer) const;
  // One answer in which nothing is known, so that the first request finds everything in place.
  void warm() const;

  const BundleFolder& bundle() const { return bundle_; }
  const IndexView& index() const { return index_; }
  bool has_texts() const { return graph_->has_texts(); }
  std::uint64_t number() const { return number_; }

 private:
  struct Batch;

  void open(const Runtime& runtime, std::size_t n_threads);
  void answer_batch(const std::vector<BoundColumn>& bound, const Batch& batch,
                    Answer* answer) const;
  void run(const std::vector<BoundColumn>& bound, std::size_t first_column, const Batch& batch,
           const JoinedBatch* joined, Answer* answer) const;
  void feed_filter(const Batch& batch, const JoinedBatch* joined, Feeds* feeds) const;
  void feed_lists(const char* name, const char* splits_name, const RaggedRows& rows,
                  const Batch& batch, const JoinedBatch* joined, Feeds* feeds) const;
  std::vector<Handle<OrtValue>> make_outputs(const Batch& batch, Answer* answer) const;
  void keep_texts(const OrtValue* ids, std::size_t first, Answer* answer) const;

  BundleFolder bundle_;
  std::uint64_t number_;
  std::string name_;  // how messages name recommend.onnx
  IndexView index_;
  std::unique_ptr<const Graph> graph_;
  std::unique_ptr<const StoredUsers> users_;  // null if the bundle has none
};

}  // namespace shortlist::engine
