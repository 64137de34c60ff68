#include "src/segments/repack.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "src/rows/check_rows.hpp"
#include "src/segments/packer.hpp"

namespace shortlist {

void collect_live(const SegmentView& view, std::vector<RowSource>& out) {
  for (std::size_t slot = 0; slot < view.n_slots; ++slot) {
    if (!view.is_alive(slot)) continue;
    out.push_back({view.segment->row_at(slot), &view.segment->vectors, slot});
  }
}

std::shared_ptr<const Segment> pack_sources(std::vector<RowSource>& sources,
                                            const Snapshot& snapshot) {
  std::sort(sources.begin(), sources.end(),
            [](const RowSource& a, const RowSource& b) { return a.row < b.row; });
  Packer packer(sources.size(), snapshot.dim, snapshot.metric, snapshot.storage);
  std::vector<float> scratch(snapshot.dim);
  for (const RowSource& source : sources) {
    const float* row = source.vectors->read(source.slot, scratch.data());
    if (!packer.add(row)) {
      throw_out_of_range(static_cast<std::size_t>(source.row), snapshot.storage);
    }
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
  const ItemIds::Kind kind = snapshot.id_kind();
  if (snapshot.live_ids == nullptr && sources.size() == snapshot.n_rows) return snapshot.ids;
  if (snapshot.live_ids == nullptr && kind == ItemIds::Kind::row_numbers) {
    return std::make_shared<ItemIds>(ItemIds::row_numbers(sources.size()));
  }
  if (kind != ItemIds::Kind::string) {
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

std::shared_ptr<Snapshot> packed_from(const Snapshot& snapshot, std::vector<RowSource> sources) {
  std::sort(sources.begin(), sources.end(),
            [](const RowSource& a, const RowSource& b) { return a.row < b.row; });
  auto result = std::make_shared<Snapshot>();
  result->metric = snapshot.metric;
  result->storage = snapshot.storage;
  result->dim = snapshot.dim;
  result->n_rows = result->n_items = sources.size();
  result->generation = snapshot.generation + 1;
  result->ids = ids_of(snapshot, sources);
  for (std::size_t i = 0; i < sources.size(); ++i) sources[i].row = static_cast<std::int64_t>(i);
  SegmentView view;
  view.segment = pack_sources(sources, snapshot);
  view.n_slots = sources.size();
  view.generation = result->generation;
  result->segments.push_back(std::move(view));
  return result;
}

}  // namespace

std::shared_ptr<Snapshot> compacted(const Snapshot& snapshot) {
  std::vector<RowSource> sources;
  sources.reserve(snapshot.n_items);
  for (const SegmentView& view : snapshot.segments) collect_live(view, sources);
  std::shared_ptr<Snapshot> result = packed_from(snapshot, std::move(sources));
  result->recall = snapshot.recall;
  return result;
}

std::shared_ptr<Snapshot> sliced(const Snapshot& snapshot, std::size_t first, std::size_t end) {
  std::vector<RowSource> sources;
  sources.reserve(end - first);
  for (std::size_t row = first; row < end; ++row) {
    for (const SegmentView& view : snapshot.segments) {
      const auto wanted = static_cast<std::int64_t>(row);
      const std::int64_t slot = view.live_slot_of(wanted);
      if (slot < 0) continue;
      sources.push_back({wanted, &view.segment->vectors, static_cast<std::size_t>(slot)});
      break;
    }
  }
  return packed_from(snapshot, std::move(sources));
}

}  // namespace shortlist
