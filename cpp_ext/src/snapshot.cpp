#include "src/snapshot.hpp"

#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "src/packer.hpp"

namespace shortlist {
namespace {

bool is_finite(const float* row, std::size_t dim) {
  std::uint32_t is_bad = 0;  // all exponent bits set = NaN or infinity
  for (std::size_t d = 0; d < dim; ++d) {
    std::uint32_t bits;
    std::memcpy(&bits, row + d, sizeof bits);
    is_bad |= static_cast<std::uint32_t>((bits & 0x7F800000U) == 0x7F800000U);
  }
  return is_bad == 0;
}

}  // namespace

// Four partial sums: the same bits everywhere, and no long dependency chain.
double squared_norm(const float* row, std::size_t dim) {
  double sum[4] = {0, 0, 0, 0};
  std::size_t d = 0;
  for (; d + 4 <= dim; d += 4) {
    for (std::size_t k = 0; k < 4; ++k) {
      const double x = static_cast<double>(row[d + k]);
      sum[k] += x * x;
    }
  }
  for (; d < dim; ++d) sum[0] += static_cast<double>(row[d]) * static_cast<double>(row[d]);
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

void normalize_row(const float* row, std::size_t dim, float* out) {
  const double norm = std::sqrt(squared_norm(row, dim));
  const double scale = norm > 0 ? 1.0 / norm : 0.0;
  for (std::size_t d = 0; d < dim; ++d) {
    out[d] = static_cast<float>(static_cast<double>(row[d]) * scale);
  }
}

std::size_t first_bad_row(const MatrixView& rows) {
  for (std::size_t row = 0; row < rows.n_rows; ++row) {
    if (!is_finite(rows.row(row), rows.dim)) return row;
  }
  return rows.n_rows;
}

void throw_not_finite(std::size_t row) {
  throw std::invalid_argument("vectors: row " + std::to_string(row) +
                              " holds a NaN or an infinity; expected finite numbers; drop or "
                              "repair that row");
}

void throw_out_of_range(std::size_t row, Storage storage) {
  const bool is_half = storage == Storage::float16;
  throw std::invalid_argument(
      "vectors: row " + std::to_string(row) + " holds a number beyond the range of storage " +
      (is_half ? "float16" : "bfloat16") + "; expected magnitudes below " +
      (is_half ? "65520" : "3.39e38") + "; rescale the embeddings or use storage float32");
}

std::int64_t SegmentView::live_place_of(std::int64_t row) const {
  if (!segment->is_delta) {
    const std::int64_t place = segment->place_of(row);
    return place >= 0 && is_alive(static_cast<std::size_t>(place)) ? place : -1;
  }
  for (std::size_t place = n_places; place-- > 0;) {  // the newest of a row is the live one
    if (segment->rows[place] != row) continue;
    return is_alive(place) ? static_cast<std::int64_t>(place) : -1;
  }
  return -1;
}

std::int64_t Snapshot::row_of(std::int64_t id) const {
  return live_ids ? live_ids->row_of(id, n_rows, version) : ids->row_of(id);
}
std::int64_t Snapshot::row_of(std::string_view id) const {
  return live_ids ? live_ids->row_of(id, n_rows, version) : ids->row_of(id);
}
void Snapshot::rows_of(const std::int64_t* wanted, std::size_t n, std::int64_t* rows) const {
  if (!live_ids) return ids->rows_of(wanted, n, rows);
  for (std::size_t i = 0; i < n; ++i) rows[i] = live_ids->row_of(wanted[i], n_rows, version);
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
    const std::int64_t place = view->live_place_of(static_cast<std::int64_t>(row));
    if (place < 0) continue;
    const float* vector = view->segment->vectors.read(static_cast<std::size_t>(place), out);
    if (vector != out) std::copy_n(vector, dim, out);
    return true;
  }
  return false;
}

void collect_live(const SegmentView& view, std::vector<RowSource>& out) {
  for (std::size_t place = 0; place < view.n_places; ++place) {
    if (!view.is_alive(place)) continue;
    out.push_back({view.segment->row_at(place), &view.segment->vectors, place});
  }
}

std::shared_ptr<const Segment> pack_sources(std::vector<RowSource>& sources,
                                            const Snapshot& snapshot) {
  std::sort(sources.begin(), sources.end(),
            [](const RowSource& a, const RowSource& b) { return a.row < b.row; });
  Packer packer(sources.size(), snapshot.dim, snapshot.metric, snapshot.storage);
  std::vector<float> scratch(snapshot.dim);
  for (const RowSource& source : sources) {
    packer.add(source.vectors->read(source.place, scratch.data()));
  }
  std::shared_ptr<Segment> segment = packer.finish();
  const bool is_dense =
      sources.empty() || sources.back().row == static_cast<std::int64_t>(sources.size()) - 1;
  if (!is_dense) {
    segment->rows.reserve(sources.size());
    for (const RowSource& source : sources) segment->rows.push_back(source.row);
  }
  return segment;
}

namespace {

std::shared_ptr<const ItemIds> ids_of(const Snapshot& snapshot,
                                      const std::vector<RowSource>& sources) {
  if (snapshot.live_ids == nullptr) return snapshot.ids;
  if (snapshot.id_kind() == ItemIds::Kind::int64) {
    std::vector<std::int64_t> values;
    values.reserve(sources.size());
    for (const RowSource& source : sources) {
      values.push_back(snapshot.int64_at(static_cast<std::size_t>(source.row)));
    }
    return std::make_shared<ItemIds>(ItemIds::from_int64(std::move(values)));
  }
  std::string bytes;
  std::vector<std::int64_t> offsets = {0};
  offsets.reserve(sources.size() + 1);
  for (const RowSource& source : sources) {
    bytes += snapshot.string_at(static_cast<std::size_t>(source.row));
    offsets.push_back(static_cast<std::int64_t>(bytes.size()));
  }
  return std::make_shared<ItemIds>(ItemIds::from_strings(std::move(bytes), std::move(offsets)));
}

}  // namespace

std::shared_ptr<Snapshot> compacted(const Snapshot& snapshot) {
  std::vector<RowSource> sources;
  sources.reserve(snapshot.n_items);
  for (const SegmentView& view : snapshot.segments) collect_live(view, sources);
  std::sort(sources.begin(), sources.end(),
            [](const RowSource& a, const RowSource& b) { return a.row < b.row; });
  auto result = std::make_shared<Snapshot>();
  result->metric = snapshot.metric;
  result->storage = snapshot.storage;
  result->recall = snapshot.recall;
  result->dim = snapshot.dim;
  result->n_rows = result->n_items = sources.size();
  result->version = snapshot.version + 1;
  result->ids = ids_of(snapshot, sources);
  for (std::size_t i = 0; i < sources.size(); ++i) sources[i].row = static_cast<std::int64_t>(i);
  SegmentView view;
  view.segment = pack_sources(sources, snapshot);
  view.n_places = sources.size();
  view.version = result->version;
  result->segments.push_back(std::move(view));
  return result;
}

}  // namespace shortlist
