// Index: reading through a view, and the one writer that publishes snapshots.
#include "shortlist/index.hpp"

#include <stdexcept>
#include <string>
#include <utility>

#include "src/index/update.hpp"
#include "src/rows/check_rows.hpp"
#include "src/rows/normalize.hpp"
#include "src/search/search.hpp"
#include "src/search/varied.hpp"
#include "src/segments/snapshot.hpp"

namespace shortlist {
namespace {

bool is_row(const Snapshot& snapshot, std::int64_t row) {
  return row >= 0 && static_cast<std::size_t>(row) < snapshot.n_rows;
}

bool is_item(const Snapshot& snapshot, std::int64_t row) {
  return is_row(snapshot, row) && snapshot.is_known(static_cast<std::size_t>(row));
}

void check_queries(const Snapshot& snapshot, const MatrixView& queries) {
  if (queries.dim != snapshot.dim) {
    throw std::invalid_argument("queries: got dim " + std::to_string(queries.dim) +
                                "; the index has dim " + std::to_string(snapshot.dim) +
                                "; encode queries with the model that made the items");
  }
  const std::size_t bad = first_bad_row(queries);
  if (bad < queries.n_rows) {
    throw std::invalid_argument("queries: row " + std::to_string(bad) +
                                " holds a NaN or an infinity; expected finite numbers");
  }
}

}  // namespace

IndexView::IndexView(std::shared_ptr<const Snapshot> snapshot) : snapshot_(std::move(snapshot)) {}

Metric IndexView::metric() const {
  return snapshot_->metric;
}
Storage IndexView::storage() const {
  return snapshot_->storage;
}
double IndexView::recall() const {
  return snapshot_->recall;
}
std::size_t IndexView::dim() const {
  return snapshot_->dim;
}
std::size_t IndexView::n_items() const {
  return snapshot_->n_items;
}
std::size_t IndexView::n_rows() const {
  return snapshot_->n_rows;
}
std::uint64_t IndexView::generation() const {
  return snapshot_->generation;
}
ItemIds::Kind IndexView::id_kind() const {
  return snapshot_->id_kind();
}
bool IndexView::is_known(std::size_t row) const {
  return snapshot_->is_known(row);
}
std::int64_t IndexView::row_of(std::int64_t id) const {
  return snapshot_->row_of(id);
}
std::int64_t IndexView::row_of(std::string_view id) const {
  return snapshot_->row_of(id);
}
void IndexView::rows_of(const std::int64_t* ids, std::size_t n, std::int64_t* rows) const {
  snapshot_->rows_of(ids, n, rows);
}
std::int64_t IndexView::int64_at(std::size_t row) const {
  return snapshot_->int64_at(row);
}
std::string_view IndexView::string_at(std::size_t row) const {
  return snapshot_->string_at(row);
}
void IndexView::ids_of(const std::int64_t* rows, std::size_t n, std::int64_t* ids) const {
  for (std::size_t i = 0; i < n; ++i) {
    ids[i] = is_item(*snapshot_, rows[i]) ? int64_at(static_cast<std::size_t>(rows[i])) : -1;
  }
}
std::string_view IndexView::string_of(std::int64_t row) const {
  return is_item(*snapshot_, row) ? string_at(static_cast<std::size_t>(row)) : "";
}
bool IndexView::copy_vector(std::size_t row, float* out) const {
  return snapshot_->copy_vector(row, out);
}

void IndexView::copy_vectors(const std::int64_t* rows, std::size_t n, float* out) const {
  for (std::size_t i = 0; i < n; ++i, out += dim()) {
    if (!is_row(*snapshot_, rows[i])) {
      throw std::invalid_argument("rows: got " + std::to_string(rows[i]) + "; the index has " +
                                  std::to_string(n_rows()) + " rows");
    }
    if (!copy_vector(static_cast<std::size_t>(rows[i]), out)) {
      throw std::invalid_argument("rows: got " + std::to_string(rows[i]) +
                                  ", the row of a removed item; expected rows of known items "
                                  "(rows_of finds them)");
    }
  }
}

void IndexView::search(const MatrixView& queries, std::size_t top_n, const Filter& filter,
                       std::size_t n_threads, const SearchOutput& output,
                       const std::function<void()>* between) const {
  check_queries(*snapshot_, queries);
  search_snapshot(*snapshot_, queries, top_n, filter, n_threads, output, between);
}

void IndexView::search(const MatrixView& queries, std::size_t top_n, const Filter& filter,
                       const Variety& variety, std::size_t n_threads, const SearchOutput& output,
                       const std::function<void()>* between) const {
  if (!variety.is_set()) return search(queries, top_n, filter, n_threads, output, between);
  check_queries(*snapshot_, queries);
  search_varied(*snapshot_, queries, top_n, filter, variety, n_threads, output, between);
}

namespace {

std::size_t n_bytes_of(const ItemIds& ids) {
  return ids.kind() == ItemIds::Kind::string ? ids.bytes().size() : 0;
}

std::int64_t row_of(const Snapshot& snapshot, const ItemIds& ids, std::size_t i) {
  return ids.kind() == ItemIds::Kind::string ? snapshot.row_of(ids.string_at(i))
                                             : snapshot.row_of(ids.int64_at(i));
}

// The rows as they are stored: for cosine normalised, then rounded.
std::vector<float> stored_rows(const MatrixView& vectors, Metric metric, Storage storage) {
  std::vector<float> stored(vectors.n_rows * vectors.dim);
  for (std::size_t i = 0; i < vectors.n_rows; ++i) {
    float* out = stored.data() + i * vectors.dim;
    const float* row = vectors.row(i);
    if (metric == Metric::cosine) {
      normalize_row(row, vectors.dim, out);
      row = out;
    }
    if (!round_row(storage, metric, row, vectors.dim, out)) throw_out_of_range(i, storage);
  }
  return stored;
}

void check_upsert(const Snapshot& snapshot, const ItemIds& ids, const MatrixView& vectors) {
  if (vectors.dim != snapshot.dim) {
    throw std::invalid_argument("vectors: got dim " + std::to_string(vectors.dim) +
                                "; the index has dim " + std::to_string(snapshot.dim) +
                                "; encode items with the model that made the others");
  }
  if (ids.size() != vectors.n_rows) {
    throw std::invalid_argument("item_ids: got " + std::to_string(ids.size()) + " ids for " +
                                std::to_string(vectors.n_rows) +
                                " rows of vectors; expected one id per row");
  }
  const bool is_string = snapshot.id_kind() == ItemIds::Kind::string;
  if (ids.size() > 0 && is_string != (ids.kind() == ItemIds::Kind::string)) {
    throw std::invalid_argument(is_string ? "item_ids: got int64 ids; this index has strings"
                                          : "item_ids: got strings; this index has int64 ids");
  }
  const std::size_t bad = first_bad_row(vectors);
  if (bad < vectors.n_rows) throw_not_finite(bad);
}

}  // namespace

Index::Index(std::shared_ptr<const Snapshot> snapshot) : state_(std::make_shared<IndexState>()) {
  state_->current = std::move(snapshot);
}

IndexView Index::view() const {
  return IndexView(state_->now());
}

void Index::upsert(const ItemIds& ids, const MatrixView& vectors, const Commit& commit) {
  check_upsert(*state_->now(), ids, vectors);
  if (vectors.n_rows == 0) return;
  const auto lock = state_->writers.lock();
  const Snapshot& before = *state_->current;
  const std::vector<float> stored = stored_rows(vectors, before.metric, before.storage);
  std::vector<std::int64_t> rows;
  std::vector<std::int64_t> replaced;
  std::vector<std::size_t> added;  // entries of `ids`
  std::size_t n_rows = before.n_rows;
  for (std::size_t i = 0; i < vectors.n_rows; ++i) {
    const std::int64_t row = row_of(before, ids, i);
    if (row < 0) {
      added.push_back(i);
      rows.push_back(static_cast<std::int64_t>(n_rows++));
    } else {
      replaced.push_back(row);
      rows.push_back(row);
    }
  }
  if (n_rows > kMaxRows) {
    throw std::invalid_argument("item_ids: got too many new ids; an index holds at most " +
                                std::to_string(kMaxRows) + " rows; save and load it, or split it");
  }
  Update update(*state_, added.size(), n_bytes_of(ids));
  update.plan(std::move(replaced), rows, stored.data());
  Snapshot& next = update.next();
  next.n_rows = n_rows;
  next.n_items += added.size();
  {
    const Uncut uncut;  // the ids are appended to those of `before`
    for (const std::size_t i : added) {
      if (ids.kind() == ItemIds::Kind::string) {
        next.live_ids->append(ids.string_at(i));
      } else {
        next.live_ids->append(ids.int64_at(i));
      }
    }
    update.commit();
    if (commit) commit(view());
  }
  renumber_if_sparse(*state_, commit);
}

std::size_t Index::remove(const ItemIds& ids, const Commit& commit) {
  const auto lock = state_->writers.lock();
  const Snapshot& before = *state_->current;
  std::vector<std::int64_t> rows;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::int64_t row = row_of(before, ids, i);
    if (row >= 0) rows.push_back(row);
  }
  if (rows.empty()) return 0;
  Update update(*state_, 0, 0);
  update.plan(rows, {}, nullptr);
  Snapshot& next = update.next();
  next.n_items -= rows.size();
  {
    const Uncut uncut;
    for (const std::int64_t row : rows) {
      next.live_ids->remove(static_cast<std::size_t>(row), next.generation);
    }
    update.commit();
    if (commit) commit(view());
  }
  renumber_if_sparse(*state_, commit);
  return rows.size();
}

}  // namespace shortlist
