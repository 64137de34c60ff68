// shortlist_index_*: making and changing an index.
#include <algorithm>
#include <memory>
#include <stdexcept>

#include "c_api/arguments.hpp"
#include "c_api/guard.hpp"

namespace shortlist::c_api {
namespace {

constexpr const char* kIndexHandle = "an index of shortlist_index_create or shortlist_index_load";

void add_sample(IndexBuilder& builder, const MatrixView& vectors) {
  const std::vector<std::int64_t> rows = recall_rows(vectors.n_rows);
  std::vector<float> queries(rows.size() * vectors.dim);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(vectors.row(static_cast<std::size_t>(rows[i])), vectors.dim,
                queries.data() + i * vectors.dim);
  }
  builder.sample({queries.data(), rows.size(), vectors.dim}, rows.data());
}

Index create(const MatrixView& vectors, const shortlist_ids* ids,
             const shortlist_index_options* given) {
  shortlist_index_options options{};
  if (given != nullptr) options = known_fields(given, "options");
  if (options.metric < 0 || options.metric > SHORTLIST_EUCLIDEAN) {
    throw std::invalid_argument("options.metric: got " + std::to_string(options.metric) +
                                "; expected SHORTLIST_COSINE, SHORTLIST_DOT or "
                                "SHORTLIST_EUCLIDEAN");
  }
  if (options.storage < 0 || options.storage > SHORTLIST_DISK6) {
    throw std::invalid_argument("options.storage: got " + std::to_string(options.storage) +
                                "; expected SHORTLIST_FLOAT32, SHORTLIST_FLOAT16, "
                                "SHORTLIST_BFLOAT16, SHORTLIST_INT8, SHORTLIST_DISK8, "
                                "SHORTLIST_DISK4, SHORTLIST_INT4 or SHORTLIST_DISK6");
  }
  if (ids != nullptr && ids->n != vectors.n_rows) {
    throw std::invalid_argument("item_ids: got " + std::to_string(ids->n) + " ids for " +
                                std::to_string(vectors.n_rows) +
                                " rows of vectors; expected one id per row");
  }
  IndexBuilder builder(vectors.n_rows, vectors.dim, static_cast<Metric>(options.metric),
                       static_cast<Storage>(options.storage));
  ItemIds item_ids = ids == nullptr ? ItemIds::row_numbers(vectors.n_rows) : new_item_ids(*ids);
  if (is_approximate(static_cast<Storage>(options.storage))) add_sample(builder, vectors);
  builder.add(vectors);
  return builder.finish(std::move(item_ids));
}

}  // namespace
}  // namespace shortlist::c_api

using namespace shortlist;
using namespace shortlist::c_api;

shortlist_status shortlist_index_create(const float* vectors, size_t n_items, size_t dim,
                                        const shortlist_ids* item_ids,
                                        const shortlist_index_options* options,
                                        shortlist_index** index, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(index, "index", "the address of a shortlist_index pointer");
    *index = nullptr;
    *index =
        new shortlist_index{create(matrix_of(vectors, n_items, dim, "vectors"), item_ids, options)};
  });
}

shortlist_status shortlist_index_load(const char* path, int32_t use_mmap, shortlist_index** index,
                                      shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(index, "index", "the address of a shortlist_index pointer");
    *index = nullptr;
    check_pointer(path, "path", "the name of a file that shortlist_view_save wrote");
    *index = new shortlist_index{Index::load(path, use_mmap != 0)};
  });
}

shortlist_status shortlist_index_upsert(shortlist_index* index, const shortlist_ids* ids,
                                        const float* vectors, size_t dim, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(index, "index", kIndexHandle);
    check_pointer(ids, "item_ids", "the address of ids, one per row of vectors");
    const MatrixView rows = matrix_of(vectors, ids->n, dim, "vectors");
    const ItemIds checked = new_item_ids(*ids);
    check_kind(index->index.view(), *ids, "item_ids");
    index->index.upsert(checked, rows);
  });
}

shortlist_status shortlist_index_remove(shortlist_index* index, const shortlist_ids* ids,
                                        size_t* n_removed, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(index, "index", kIndexHandle);
    check_pointer(ids, "item_ids", "the address of ids");
    const ItemIds checked = item_ids(*ids);
    check_kind(index->index.view(), *ids, "item_ids");
    const std::size_t n = index->index.remove(checked);
    if (n_removed != nullptr) *n_removed = n;
  });
}

shortlist_status shortlist_index_view(const shortlist_index* index, shortlist_view** view,
                                      shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(index, "index", kIndexHandle);
    check_pointer(view, "view", "the address of a shortlist_view pointer");
    *view = nullptr;
    *view = new shortlist_view{index->index.view()};
  });
}

void shortlist_index_free(shortlist_index* index) {
  delete index;
}
