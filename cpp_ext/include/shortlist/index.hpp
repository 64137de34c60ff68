// Exact top-N search over a catalogue of item embeddings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "shortlist/file_error.hpp"
#include "shortlist/filter.hpp"
#include "shortlist/item_ids.hpp"
#include "shortlist/matrix_view.hpp"
#include "shortlist/metric.hpp"
#include "shortlist/search_output.hpp"
#include "shortlist/storage.hpp"
#include "shortlist/variety.hpp"

namespace shortlist {

class Packer;
class RecallSample;
struct IndexState;
struct Snapshot;

}  // namespace shortlist

namespace [[gnu::visibility("default")]] shortlist {

class Index;

// Where the bytes of an index's items lie. What is mapped is read from the file when it is needed,
// and may leave memory again whenever the system wants its room.
struct IndexMemory {
  std::size_t codes = 0;  // and the numbers that bound their error
  std::size_t rows = 0;
  std::size_t mapped_codes = 0;
  std::size_t mapped_rows = 0;
  std::size_t rows_on_disk = 0;  // read one by one
  std::size_t ids = 0;           // about
};

// Rows, evenly over n_items of them, whose items measure the recall of an approximate storage.
std::vector<std::int64_t> recall_rows(std::size_t n_items);

// The index at one moment: immutable, cheap to copy, safe to read from any number of threads, and
// unaffected by later updates. Rows: 0 .. n_rows() - 1; those of removed items are not known.
class IndexView {
 public:
  explicit IndexView(std::shared_ptr<const Snapshot> snapshot);

  Metric metric() const;
  Storage storage() const;
  // Approximate storages: the share of the true top 10 that a sample of the items, as queries,
  // found when the index was built. NaN for other storages, and for less than two items.
  double recall() const;
  std::size_t dim() const;
  std::size_t n_items() const;
  std::size_t n_rows() const;
  // Grows with every update; 0 for an index that was never updated.
  std::uint64_t generation() const;
  ItemIds::Kind id_kind() const;
  // False for the row of a removed item. @pre row < n_rows(), as below
  bool is_known(std::size_t row) const;
  // -1 when the id is unknown, or of the other kind.
  std::int64_t row_of(std::int64_t id) const;
  std::int64_t row_of(std::string_view id) const;
  // row_of for n ids; faster where the table of ids is larger than the caches.
  void rows_of(const std::int64_t* ids, std::size_t n, std::int64_t* rows) const;
  std::int64_t int64_at(std::size_t row) const;
  std::string_view string_at(std::size_t row) const;
  // The ids of any numbers: -1, or "", where they are no row, or that of a removed item.
  void ids_of(const std::int64_t* rows, std::size_t n, std::int64_t* ids) const;
  std::string_view string_of(std::int64_t row) const;
  // False if not known; else the stored row (for cosine: normalised before it was rounded) goes to
  // out, dim floats.
  bool copy_vector(std::size_t row, float* out) const;
  // The stored rows one after another, (n, dim). Throws std::invalid_argument for one that is no
  // row, or that of a removed item.
  void copy_vectors(const std::int64_t* rows, std::size_t n, float* out) const;

  // The exact top_n, with respect to the stored rows, of every query; n_threads = 0 uses the whole
  // pool. Throws std::invalid_argument for a wrong dim, a NaN or infinite query, a bad filter.
  // `between`, if given, is called several times a second on the caller's thread, between groups of
  // queries; what it throws ends the search.
  void search(const MatrixView& queries, std::size_t top_n, const Filter& filter,
              std::size_t n_threads, const SearchOutput& output,
              const std::function<void()>* between = nullptr) const;
  // The same for lists that `variety` describes; with diversity they are in the order in which
  // items are chosen.
  void search(const MatrixView& queries, std::size_t top_n, const Filter& filter,
              const Variety& variety, std::size_t n_threads, const SearchOutput& output,
              const std::function<void()>* between = nullptr) const;

  IndexMemory memory() const;
  // The same items, with the vectors stored here, in another storage; removed rows are left out.
  // Throws std::invalid_argument where vectors that were rounded already would be rounded again, or
  // the new storage cannot hold a number.
  Index with_storage(Storage storage) const;

  // Writes a temporary file beside `path`, syncs, renames. Rows of removed items are left out, the
  // others keep their order. Throws FileError.
  void save(const std::string& path) const;
  // The same bytes in memory.
  std::string to_bytes() const;
  // The items of rows first .. end - 1 as an index of their own, with the vectors that are stored
  // here; rows count from 0, removed ones left out. Row numbers as ids count from 0 as well.
  // @pre first <= end <= n_rows()
  Index slice(std::size_t first, std::size_t end) const;

 private:
  friend class Index;
  std::shared_ptr<const Snapshot> snapshot_;
};

// An index that can change. Every update publishes a new snapshot; readers take a view() and never
// wait. Writers wait for each other. Copies are handles of the same index.
class Index {
 public:
  // What else is to change in the same moment: called with each new view of an update (a second one
  // where rows of removed items are given back), while no fork can come between. It may not fail.
  using Commit = std::function<void(const IndexView&)>;

  explicit Index(std::shared_ptr<const Snapshot> snapshot);

  IndexView view() const;

  // Replaces the vectors of known ids (which keep their row) and gives the next rows to new ids,
  // all in one snapshot. Throws std::invalid_argument before anything changes.
  void upsert(const ItemIds& ids, const MatrixView& vectors, const Commit& commit = {});
  // Removes the known ones among the ids; returns how many.
  std::size_t remove(const ItemIds& ids, const Commit& commit = {});

  // Verifies every byte against its checksum first. With use_mmap the file stays mapped and must
  // not be shortened while the index lives; replacing it by rename is safe. Storages with rows on
  // disk keep the file open instead, and copy all but the rows. Errors call the file `name`, or by
  // its path. Throws FileError.
  static Index load(const std::string& path, bool use_mmap, const std::string& name = "");
  // The same for an index file's bytes in memory, which must stay as they are while the index, its
  // copies or its views live. They are copied only if they do not begin at a multiple of 64 bytes.
  // Errors call them `name`. Throws FileError.
  static Index borrow(const std::string& name, const void* bytes, std::size_t size);
  // The same, but copied: the bytes may go.
  static Index from_bytes(const std::string& name, const void* bytes, std::size_t size);
  // One index of the items of several, those of the first part first. The vectors are not copied
  // where a part was never updated. Throws std::invalid_argument that names the first part of
  // another dim, metric, storage or kind of ids than the part before it, or an id that repeats.
  static Index join(const std::vector<IndexView>& parts);

 private:
  std::shared_ptr<IndexState> state_;
};

// Packs rows that arrive in chunks, so that a caller never needs a second copy of a catalogue.
class IndexBuilder {
 public:
  IndexBuilder(std::size_t n_items, std::size_t dim, Metric metric,
               Storage storage = Storage::float32);
  ~IndexBuilder();
  // Approximate storages: measure the recall with these rows as queries; they are rows of the index
  // too, rows[i] is the number of the i-th. @pre called before add
  void sample(const MatrixView& queries, const std::int64_t* rows);
  // Rows follow the rows added before. Throws std::invalid_argument naming the first bad row; the
  // builder is of no use then.
  void add(const MatrixView& rows);
  // @pre n_items rows were added; ids.size() == n_items. The builder is empty afterwards.
  Index finish(ItemIds ids);

 private:
  std::unique_ptr<Packer> packer_;
  std::unique_ptr<RecallSample> sample_;
  std::vector<float> normalized_;  // rows on their way to the packer
  std::size_t n_items_;
  std::size_t dim_;
  Metric metric_;
  Storage storage_;
  std::size_t n_added_ = 0;
};

}  // namespace shortlist
