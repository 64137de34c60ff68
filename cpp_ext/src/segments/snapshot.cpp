#include "src/segments/snapshot.hpp"

#include <algorithm>

namespace shortlist {

std::int64_t Snapshot::row_of(std::int64_t id) const {
  return live_ids ? live_ids->row_of(id, n_rows, generation) : ids->row_of(id);
}
std::int64_t Snapshot::row_of(std::string_view id) const {
  return live_ids ? live_ids->row_of(id, n_rows, generation) : ids->row_of(id);
}
void Snapshot::rows_of(const std::int64_t* wanted, std::size_t n, std::int64_t* rows) const {
  if (!live_ids) return ids->rows_of(wanted, n, rows);
  for (std::size_t i = 0; i < n; ++i) rows[i] = live_ids->row_of(wanted[i], n_rows, generation);
}
std::int64_t Snapshot::int64_at(std::size_t row) const {
  return live_ids ? live_ids->int64_at(row) : ids->int64_at(row);
}
std::string_view Snapshot::string_at(std::size_t row) const {
  return live_ids ? live_ids->string_at(row) : ids->string_at(row);
}

bool Snapshot::copy_vector(std::size_t row, float* out) const {
  if (!is_known(row)) return false;
  for (auto view = segments.rbegin(); view != segments.rend(); ++view) {
    const std::int64_t slot = view->live_slot_of(static_cast<std::int64_t>(row));
    if (slot < 0) continue;
    const float* vector = view->segment->vectors.read(static_cast<std::size_t>(slot), out);
    if (vector != out) std::copy_n(vector, dim, out);
    return true;
  }
  return false;
}

}  // namespace shortlist
