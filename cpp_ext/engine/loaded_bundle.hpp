// One loaded bundle, answering requests (internal): the one way from columns to an answer. An
// engine has one at a time; a swap puts another in its place, and the old one goes with its last
// call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/batcher.hpp"
#include "engine/bundle.hpp"
#include "engine/call.hpp"
#include "engine/catalogue.hpp"
#include "engine/columns.hpp"
#include "engine/fixed_batches.hpp"
#include "engine/graph.hpp"
#include "engine/joined.hpp"
#include "engine/portable_search.hpp"
#include "engine/reasons.hpp"
#include "engine/runtime.hpp"
#include "engine/stored_users.hpp"
#include "src/system/forks.hpp"

namespace shortlist::engine {

struct Event;
struct Pass;

struct BundleSettings {
  SessionSettings session;
  BatchSettings batching;
  std::string search = "index";  // see check_search
  FixedBatches fixed_batches;
};

class [[gnu::visibility("default")]] LoadedBundle {
 public:
  // Throws FileError for the bundle, DeviceMissing for the device.
  LoadedBundle(const Runtime& runtime, BundleFolder bundle, const BundleSettings& settings,
               std::uint64_t number);

  // Any number of threads may call the const methods at once, each with any catalogue of this
  // bundle. They throw std::invalid_argument for what the caller gave.
  void recommend(const Call& call, const Catalogue& catalogue, const AnswerView& answer) const;
  // User embeddings (n_requests, dim) of call.columns; the rest of the call does not matter.
  void encode_users(const Call& call, const Catalogue& catalogue, float* embeddings) const;
  // Scores (n_requests, n) of the items of given rows (the same) by all stages of the call;
  // -infinity for negative rows.
  void score(const Call& call, const Catalogue& catalogue, const std::int64_t* rows, std::size_t n,
             float* scores) const;
  // The answer to a call, and why each item is in it; see reasons.hpp. What the call gives as
  // skipped counts, too.
  void explain(const Call& call, const Catalogue& catalogue, const ReasonOptions& options,
               const AnswerView& answer, const ReasonsView& reasons) const;
  // Item embeddings (n, dim) of raw columns of item_encoder.onnx, which is opened at the first
  // call.
  void encode_items(const shortlist_column* columns, std::size_t n_columns, std::size_t n,
                    float* embeddings) const;
  // Takes session_encoder.onnx, which is opened at the first call, over events of one session,
  // whose items it must know. `columns` are those of its request, without a history. `found` (dim +
  // the width of a state) has the embedding and the state after the event before, which was at
  // `last_time`, or zeros where none was; then those after the last event. The bits do not depend
  // on how events are cut into calls.
  void step_session(const std::vector<shortlist_column>& columns, const std::vector<Event>& events,
                    std::int64_t last_time, bool is_first, float* found) const;
  bool has_session_encoder() const;
  // Of `found`. @pre has_session_encoder()
  std::size_t session_width() const;
  // Opens item_encoder.onnx beside requests that other bundles answer.
  void open_item_encoder() const;
  // The first request of every batch into which a call is cut.
  std::vector<std::size_t> batch_starts(const Call& call) const;
  // Waits for the calls that share runs.
  void drain() const;
  // One answer in every way, so that the first request finds everything in place.
  void warm() const;

  // The items now; the two writers make the next ones. One writer at a time.
  std::shared_ptr<Catalogue> catalogue() const;
  std::shared_ptr<Catalogue> upsert(const ItemIds& ids, const MatrixView& vectors,
                                    const Popularity* popularity);
  std::shared_ptr<Catalogue> remove(const ItemIds& ids);

  // The items as the bundle came with them: those that the graph knows.
  std::shared_ptr<const Catalogue> exported() const { return first_; }
  const BundleFolder& bundle() const { return bundle_; }
  const Index& index() const { return index_; }
  const Graph& graph() const { return *graph_; }
  // Null if the bundle has none.
  const StoredUsers* users() const { return users_.get(); }
  // Null where every call goes alone.
  const Batcher* batcher() const { return batcher_.get(); }
  // Null where the index finds everything.
  const PortableSearch* portable() const { return portable_.get(); }
  const FixedBatches& fixed_batches() const { return fixed_; }
  // The sessions that are open.
  std::vector<const Session*> sessions() const;
  std::size_t n_threads() const { return settings_.session.n_threads; }  // of a search
  std::uint64_t number() const { return number_; }
  std::string runtime_version() const { return runtime_.base->GetVersionString(); }

 private:
  struct Batch;
  struct Target;
  class Explained;

  void open_portable();
  void start_batching();
  void recommend_now(const Call& call, const Catalogue& catalogue, const AnswerView& answer) const;
  void recommend_together(const std::vector<const SingleRequest*>& requests) const;
  std::vector<BoundColumn> bind(const Call& call) const;
  std::vector<std::int64_t> users_of(const Call& call) const;
  void run_call(const Call& call, const Catalogue& catalogue, Target& target) const;
  void run_batches(const Call& call, const Catalogue& catalogue,
                   const std::vector<BoundColumn>& bound,
                   const std::vector<std::int64_t>& user_rows, Target& target) const;
  void run_joined(const std::vector<BoundColumn>& bound, const Batch& batch, Target& target) const;
  void run(const std::vector<BoundColumn>& bound, std::size_t first_column, const Batch& batch,
           const JoinedBatch* joined, Target& target) const;
  void run_once(const std::vector<BoundColumn>& bound, std::size_t first_column, const Batch& batch,
                const JoinedBatch* joined, const Target& target, const Pass& pass) const;
  bool is_for_portable(const Batch& batch, const JoinedBatch* joined, const Target& target) const;
  Room room_for(const std::vector<BoundColumn>& bound, std::size_t first_column,
                const Batch& batch) const;
  ort_op::SearchCall search_for(const Batch& batch, const Target& target) const;
  bool list_exclusions(const Batch& batch, const JoinedBatch* joined,
                       std::vector<std::int64_t>* values, std::vector<std::int64_t>* splits) const;
  RowFacts facts_of(const Catalogue& catalogue) const;
  Index::Commit committing(RowFacts& facts);
  const Session& item_encoder() const;
  const Session& session_encoder() const;

  Runtime runtime_;
  BundleFolder bundle_;
  BundleSettings settings_;
  std::uint64_t number_;
  Index index_;
  std::shared_ptr<Catalogue> first_;  // as exported
  std::unique_ptr<const Graph> graph_;
  std::unique_ptr<const StoredUsers> users_;
  std::unique_ptr<PortableSearch> portable_;
  FixedBatches fixed_;
  std::unique_ptr<const Batcher> batcher_;
  ForkMutex changing_;  // of now_, for a moment
  std::shared_ptr<Catalogue> now_;
  ForkMutex opening_;  // of the encoders below; held while a session is made
  mutable std::unique_ptr<const Session> item_encoder_, session_encoder_;
};

}  // namespace shortlist::engine
