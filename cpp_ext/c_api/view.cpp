// shortlist_view_*, but for search.
#include <stdexcept>

#include "c_api/arguments.hpp"
#include "c_api/guard.hpp"
#include "c_api/names.hpp"

using namespace shortlist;
using namespace shortlist::c_api;

void shortlist_view_free(shortlist_view* view) {
  delete view;
}

shortlist_status shortlist_view_info(const shortlist_view* handle, shortlist_info* info,
                                     shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(handle, "view", kViewHandle);
    check_pointer(info, "info", "the address of a shortlist_info");
    const std::size_t struct_size = info->struct_size;
    check_struct(info, struct_size, sizeof *info, "info");
    const IndexView& view = handle->view;
    *info = {};
    info->struct_size = struct_size;
    info->n_items = view.n_items();
    info->n_rows = view.n_rows();
    info->dim = view.dim();
    info->version = view.generation();
    info->recall = view.recall();
    info->metric = static_cast<int32_t>(view.metric());
    info->storage = static_cast<int32_t>(view.storage());
    info->has_texts = view.id_kind() == ItemIds::Kind::string ? 1 : 0;
  });
}

shortlist_status shortlist_view_rows_of(const shortlist_view* handle, const shortlist_ids* ids,
                                        int64_t* rows, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(handle, "view", kViewHandle);
    check_pointer(ids, "ids", "the address of ids");
    if (ids->n > 0) check_pointer(rows, "rows", "room for ids->n row numbers");
    if (ids->rows != nullptr) {
      throw std::invalid_argument("ids: got rows; expected numbers or texts, which have rows");
    }
    const Rows found(handle->view, *ids, "ids");
    for (std::size_t i = 0; i < found.size(); ++i) rows[i] = found.data()[i];
  });
}

shortlist_status shortlist_view_ids_of(const shortlist_view* handle, const int64_t* rows, size_t n,
                                       int64_t* numbers, shortlist_text* texts,
                                       shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(handle, "view", kViewHandle);
    if (n == 0) return;
    check_pointer(rows, "rows", "the address of row numbers");
    if (numbers == nullptr && texts == nullptr) {
      check_pointer(nullptr, "numbers", "room for n ids here, or in texts");
    }
    check_wanted_ids(handle->view, numbers, texts);
    check_rows(handle->view, rows, n);
    write_ids(handle->view, rows, n, numbers, texts);
  });
}

shortlist_status shortlist_view_vectors(const shortlist_view* handle, const int64_t* rows, size_t n,
                                        float* vectors, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(handle, "view", kViewHandle);
    if (n == 0) return;
    check_pointer(rows, "rows", "the address of row numbers");
    check_pointer(vectors, "vectors", "room for n * dim numbers");
    const IndexView& view = handle->view;
    check_rows(view, rows, n);
    for (std::size_t i = 0; i < n; ++i) {
      if (rows[i] < 0 ||
          !view.copy_vector(static_cast<std::size_t>(rows[i]), vectors + i * view.dim())) {
        throw std::invalid_argument("rows: got " + std::to_string(rows[i]) + " at position " +
                                    std::to_string(i) +
                                    ", not the row of an item; expected rows of known items "
                                    "(shortlist_view_rows_of finds them)");
      }
    }
  });
}

shortlist_status shortlist_view_save(const shortlist_view* handle, const char* path,
                                     shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(handle, "view", kViewHandle);
    check_pointer(path, "path", "the name of a file to write");
    handle->view.save(path);
  });
}
