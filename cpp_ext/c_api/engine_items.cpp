// shortlist_engine_*: embeddings, scores of given items, and items that change.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "c_api/engine_handle.hpp"
#include "c_api/guard.hpp"
#include "c_api/names.hpp"

using shortlist::engine::Call;
using shortlist::engine::Catalogue;
using shortlist::engine::LoadedBundle;

namespace shortlist::c_api {
namespace {

void score(const shortlist_engine& engine, const shortlist_requests& requests,
           const shortlist_ids& ids, float* scores) {
  const std::shared_ptr<LoadedBundle> bundle = engine.current();
  const std::shared_ptr<Catalogue> catalogue = bundle->catalogue();
  const IndexView& view = catalogue->view();
  const CheckedRequests checked(*bundle, view, requests);
  const std::size_t n_places = requests.n_requests * requests.top_n;
  if (ids.n != n_places) {
    throw std::invalid_argument("item_ids: got " + std::to_string(ids.n) + "; expected " +
                                std::to_string(n_places) + ", top_n for each request");
  }
  if (n_places > 0) check_pointer(scores, "scores", "room for n_requests * top_n numbers");
  if (ids.rows != nullptr) check_rows(view, ids.rows, ids.n);
  const Rows rows(view, ids, "item_ids");
  bundle->score(checked.call(), *catalogue, rows.data(), requests.top_n, scores);
}

// The columns with item_id, from the ids, in front.
std::vector<shortlist_column> item_columns(const shortlist_ids& ids,
                                           const shortlist_column* columns, std::size_t n_columns) {
  std::vector<shortlist_column> all(1);
  all[0].name = "item_id";
  all[0].numbers = ids.numbers;
  all[0].texts = ids.texts;
  all.insert(all.end(), columns, columns + n_columns);
  return all;
}

void upsert(shortlist_engine& engine, const shortlist_ids& ids, const shortlist_column* columns,
            std::size_t n_columns, const float* vectors) {
  const auto lock = engine.writing.lock();
  const std::shared_ptr<LoadedBundle> bundle = engine.current();
  const std::size_t dim = bundle->bundle().manifest.dim;
  const ItemIds checked = new_item_ids(ids);
  check_kind(bundle->catalogue()->view(), ids, "item_ids");
  if (vectors != nullptr && n_columns > 0) {
    throw std::invalid_argument(
        "vectors: got some beside columns; expected either; set vectors to NULL");
  }
  if (ids.n == 0) return;
  std::vector<float> made;
  if (vectors == nullptr) {
    made.resize(ids.n * dim);
    const std::vector<shortlist_column> all = item_columns(ids, columns, n_columns);
    bundle->encode_items(all.data(), all.size(), ids.n, made.data());
    vectors = made.data();
  }
  bundle->upsert(checked, matrix_of(vectors, ids.n, dim, "vectors"), nullptr);
}

std::size_t remove(shortlist_engine& engine, const shortlist_ids& ids) {
  const auto lock = engine.writing.lock();
  const std::shared_ptr<LoadedBundle> bundle = engine.current();
  const IndexView before = bundle->catalogue()->view();
  const ItemIds checked = item_ids(ids);
  check_kind(before, ids, "item_ids");
  return before.n_items() - bundle->remove(checked)->view().n_items();
}

}  // namespace
}  // namespace shortlist::c_api

using namespace shortlist::c_api;

shortlist_status shortlist_engine_encode_users(const shortlist_engine* engine,
                                               const shortlist_requests* requests,
                                               float* embeddings, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(engine, "engine", kEngineHandle);
    check_pointer(requests, "requests", "the address of a shortlist_requests");
    const std::shared_ptr<LoadedBundle> bundle = engine->current();
    const std::shared_ptr<Catalogue> catalogue = bundle->catalogue();
    const CheckedRequests checked(*bundle, catalogue->view(), known_requests(requests));
    if (checked.call().n_requests > 0) {
      check_pointer(embeddings, "embeddings", "room for n_requests * dim numbers");
    }
    bundle->encode_users(checked.call(), *catalogue, embeddings);
  });
}

shortlist_status shortlist_engine_score(const shortlist_engine* engine,
                                        const shortlist_requests* requests,
                                        const shortlist_ids* item_ids, float* scores,
                                        shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(engine, "engine", kEngineHandle);
    check_pointer(requests, "requests", "the address of a shortlist_requests");
    check_pointer(item_ids, "item_ids", "the address of ids, top_n for each request");
    score(*engine, known_requests(requests), *item_ids, scores);
  });
}

shortlist_status shortlist_engine_encode_items(const shortlist_engine* engine,
                                               const shortlist_column* columns, size_t n_columns,
                                               size_t n_items, float* embeddings,
                                               shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(engine, "engine", kEngineHandle);
    if (n_columns > 0) check_pointer(columns, "columns", "n_columns columns");
    if (n_items > 0) check_pointer(embeddings, "embeddings", "room for n_items * dim numbers");
    engine->current()->encode_items(columns, n_columns, n_items, embeddings);
  });
}

shortlist_status shortlist_engine_upsert(shortlist_engine* engine, const shortlist_ids* item_ids,
                                         const shortlist_column* columns, size_t n_columns,
                                         const float* vectors, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(engine, "engine", kEngineHandle);
    check_pointer(item_ids, "item_ids", "the address of ids, one an item");
    if (n_columns > 0) check_pointer(columns, "columns", "n_columns columns");
    upsert(*engine, *item_ids, columns, n_columns, vectors);
  });
}

shortlist_status shortlist_engine_remove(shortlist_engine* engine, const shortlist_ids* item_ids,
                                         size_t* n_removed, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(engine, "engine", kEngineHandle);
    check_pointer(item_ids, "item_ids", "the address of ids");
    const std::size_t n = remove(*engine, *item_ids);
    if (n_removed != nullptr) *n_removed = n;
  });
}

shortlist_status shortlist_engine_view(const shortlist_engine* engine, shortlist_view** view,
                                       shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(view, "view", "the address of a shortlist_view pointer");
    *view = nullptr;
    check_pointer(engine, "engine", kEngineHandle);
    *view = new shortlist_view{engine->current()->catalogue()->view()};
  });
}
