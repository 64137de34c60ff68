#include "engine/batch.hpp"

#include <algorithm>
#include <utility>

#include "engine/graph_check.hpp"
#include "shortlist/background.hpp"
#include "shortlist/thread_pool.hpp"

namespace shortlist::engine {
namespace {

constexpr const char* kIndex = "items.index";
constexpr const char* kUsers = "users.arrow";
constexpr const char* kItemEncoder = "item_encoder.onnx";

Index load_index(const BundleFolder& bundle) {
  if (bundle.manifest.files.count(kIndex) == 0) bundle.throw_no_entry(kIndex);
  check_index(bundle);
  return Index::load(bundle.file(kIndex), true, bundle.name + "/" + kIndex);
}

}  // namespace

LoadedBundle::LoadedBundle(const Runtime& runtime, BundleFolder bundle,
                           const BundleSettings& settings, std::uint64_t number)
    : runtime_(runtime),
      bundle_(std::move(bundle)),
      settings_(settings),
      number_(number),
      index_(load_index(bundle_)),
      first_(std::make_shared<Catalogue>(index_.view())),
      fixed_(settings.fixed_batches),
      now_(first_) {
  if (bundle_.manifest.files.count(kGraph) == 0) bundle_.throw_no_entry(kGraph);
  check_graphs(bundle_);
  graph_ =
      std::make_unique<const Graph>(runtime_, bundle_.file(kGraph), bundle_.name + "/" + kGraph,
                                    &first_->view(), settings_.session);
  if (graph_->has_texts() != (bundle_.manifest.item_id_dtype == "string")) {
    throw FileError(bundle_.name + "/" + kGraph +
                    ": expected a graph ONNX Runtime can open, found other inputs and outputs than "
                    "those of docs/plugin.md");
  }
  if (bundle_.manifest.files.count("scorer.onnx") != 0 && !graph_->has_reranker()) {
    throw FileError(
        bundle_.name + "/" + kGraph +
        ": expected an optional input stages, found a graph of an older release; export "
        "the run again");
  }
  if (bundle_.manifest.files.count(kUsers) != 0) {
    users_ = std::make_unique<const StoredUsers>(bundle_.file(kUsers), bundle_.name + "/" + kUsers,
                                                 bundle_.manifest, graph_->inputs());
  }
  check_search(settings_.search);
  if (settings_.search != "index") open_portable();
  if (settings_.batching.max_batch > 1) start_batching();
}

void LoadedBundle::open_portable() {
  const std::string& search = settings_.search;
  const bool has_device = graph_->session().has_device();
  if (search == "auto" && !has_device) return;
  const std::string name = bundle_.name + "/" + kPortableGraph;
  if (bundle_.manifest.files.count(kPortableGraph) == 0) {
    if (search != "graph") return;
    throw FileError(name +
                    ": expected the graph that search='graph' runs, found no such file; "
                    "export with it");
  }
  portable_ = std::make_unique<PortableSearch>(runtime_, bundle_.file(kPortableGraph), name,
                                               *graph_, settings_.session);
  if (search == "graph") return;
  TrialRequests requests(first_->view(), bundle_.manifest.max_history);
  portable_->way().measure([this, &requests](std::size_t n) {
    recommend_now(requests.call(n), *first_, requests.answer());
  });
}

void LoadedBundle::start_batching() {
  const std::size_t n_all = num_threads(), n_threads = settings_.session.n_threads;
  const std::size_t n_at_once = n_all / (n_threads == 0 ? n_all : n_threads);
  batcher_ = std::make_unique<const Batcher>(
      settings_.batching, std::max<std::size_t>(1, n_at_once),
      [this](const auto& requests) { recommend_together(requests); });
}

void LoadedBundle::drain() const {
  if (batcher_ != nullptr) batcher_->drain();
}

void LoadedBundle::encode_items(const shortlist_column* columns, std::size_t n_columns,
                                std::size_t n, float* embeddings) const {
  const Session& session = item_encoder();
  const std::vector<BoundColumn> bound =
      bind_columns(session.inputs(), columns, n_columns, n, false);
  constexpr const char* kOutput[] = {"item_embedding"};
  for (std::size_t first = 0; first < n;) {
    const std::size_t n_now = batch_size(bound, first, n);
    Feeds feeds;
    for (const BoundColumn& column : bound) {
      feeds.add(column.input->name.c_str(), make_input(session.api(), bound, column, first, n_now));
    }
    std::vector<Handle<OrtValue>> outputs;
    const std::size_t dim = bundle_.manifest.dim;
    outputs.push_back(session.over(embeddings + first * dim, n_now, dim, kFloat));
    session.run(feeds, kOutput, &outputs);
    first += n_now;
  }
}

void LoadedBundle::open_item_encoder() const {
  const auto work = [this] { item_encoder(); };
  if (may_give_way(runtime_, settings_.session)) {
    run_in_background(work);
  } else {
    work();
  }
}

void LoadedBundle::warm() const {
  float score = 0;
  std::int64_t row = 0, count = 0, source = 0;
  for (const int stages : {1, 2}) {
    Call call;
    call.n_requests = 1;
    call.stages = stages;
    recommend_now(call, *first_, {&score, &row, &count, &source, nullptr});
    Target by_index{{&score, &row, &count, &source, nullptr}};
    by_index.needs_index = true;
    if (portable_ != nullptr) run_call(call, *first_, by_index);
  }
}

std::vector<const Session*> LoadedBundle::sessions() const {
  std::vector<const Session*> sessions = {&graph_->session()};
  if (portable_ != nullptr) sessions.push_back(&portable_->session());
  const auto lock = opening_.lock();
  if (item_encoder_ != nullptr) sessions.push_back(item_encoder_.get());
  if (session_encoder_ != nullptr) sessions.push_back(session_encoder_.get());
  return sessions;
}

const Session& LoadedBundle::item_encoder() const {
  const auto lock = opening_.lock();
  if (item_encoder_ == nullptr) {
    if (bundle_.manifest.files.count(kItemEncoder) == 0) bundle_.throw_no_entry(kItemEncoder);
    const std::string name = bundle_.name + "/" + kItemEncoder;
    auto session = std::make_unique<const Session>(runtime_, bundle_.file(kItemEncoder), name,
                                                   settings_.session, nullptr);
    const std::vector<Input>& outputs = session->outputs();
    const auto dim = static_cast<std::int64_t>(bundle_.manifest.dim);
    if (outputs.size() != 1 || outputs[0].name != "item_embedding" || outputs[0].type != kFloat ||
        outputs[0].shape.size() != 2 || outputs[0].shape[1] != dim) {
      throw FileError(name + ": expected one output item_embedding (batch, " + std::to_string(dim) +
                      "), found others");
    }
    item_encoder_ = std::move(session);
  }
  return *item_encoder_;
}

std::shared_ptr<Catalogue> LoadedBundle::catalogue() const {
  const Uncut uncut;
  const auto lock = changing_.lock();
  return now_;
}

std::shared_ptr<Catalogue> LoadedBundle::upsert(const ItemIds& ids, const MatrixView& vectors,
                                                const Popularity* popularity) {
  const std::shared_ptr<Catalogue> before = catalogue();
  RowFacts facts = after_upsert(before->view(), facts_of(*before), ids, popularity);
  const Index::Commit commit = committing(facts);
  if (vectors.n_rows > 0) {
    index_.upsert(ids, vectors, commit);
  } else {
    const Uncut uncut;
    commit(index_.view());
  }
  return catalogue();
}

std::shared_ptr<Catalogue> LoadedBundle::remove(const ItemIds& ids) {
  const std::shared_ptr<Catalogue> before = catalogue();
  RowFacts facts = after_remove(before->view(), facts_of(*before), ids);
  index_.remove(ids, committing(facts));
  return catalogue();
}

// Index and catalogue change together: a forked child finds both as before, or both as after.
Index::Commit LoadedBundle::committing(RowFacts& facts) {
  return [this, &facts](const IndexView& view) {
    const auto lock = changing_.lock();
    if (view.n_rows() < now_->view().n_rows()) facts = without_gaps(*now_);
    now_ = std::make_shared<Catalogue>(view, std::move(facts.codes), std::move(facts.popularity));
  };
}

// What is popular in the catalogue that was exported, the graph says: it is its answer when nothing
// is known.
RowFacts LoadedBundle::facts_of(const Catalogue& catalogue) const {
  if (!catalogue.is_as_exported()) return {catalogue.codes(), catalogue.popularity()};
  const std::size_t n = catalogue.view().n_rows();
  std::vector<float> scores(n);
  std::vector<std::int64_t> rows(n);
  std::int64_t count = 0, source = 0;
  Call call;
  call.n_requests = 1;
  call.top_n = n;
  call.stages = 1;
  Target target{{scores.data(), rows.data(), &count, &source, nullptr}};
  target.needs_index = true;
  run_call(call, catalogue, target);
  RowFacts facts{std::vector<std::int64_t>(n), std::vector<float>(n)};
  for (std::size_t i = 0; i < n; ++i) {
    facts.codes[i] = static_cast<std::int64_t>(i) + 1;
    if (rows[i] >= 0) facts.popularity[static_cast<std::size_t>(rows[i])] = scores[i];
  }
  return facts;
}

}  // namespace shortlist::engine
