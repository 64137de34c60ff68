#include "check_kernels.hpp"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <tuple>
#include <vector>

using namespace shortlist::kernels;

namespace {

constexpr int kShown = 10;
int n_errors = 0;

void report(const Table& table, const char* what, std::size_t dim, std::size_t n_queries,
            std::size_t n_blocks) {
  if (++n_errors > kShown) return;
  std::fprintf(stderr, "%s: %s differs at dim %zu, %zu queries, %zu blocks\n", table.name, what,
               dim, n_queries, n_blocks);
}

std::vector<std::size_t> dims() {
  std::vector<std::size_t> all;
  for (std::size_t dim = 1; dim <= 65; ++dim) all.push_back(dim);
  all.insert(all.end(), {127, 128, 129, 255, 256, 257});
  return all;
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// ---- exact scores ----

// Values of every size, denormals, infinities of neither sign.
float any_float(std::mt19937& random) {
  static const float special[] = {0.0f, -0.0f, 1e-45f, -1e-40f, 1e-20f, 1e30f, -3e38f, 1.0f};
  if (random() % 4 == 0) return special[random() % 8];
  return std::normal_distribution<float>()(random);
}

void check_rows(const Table& table, std::size_t dim, std::mt19937& random) {
  constexpr std::size_t kRows = 9;
  const std::int64_t indices[] = {8, 0, 3, 3, 7};
  // Exactly as large as promised, so that a sanitizer or valgrind sees a read past the end.
  std::vector<float> rows(kRows * dim);
  for (float& value : rows) value = any_float(random);
  std::vector<double> query((dim + kLanes - 1) / kLanes * kLanes, 0.0);
  for (std::size_t d = 0; d < dim; ++d) query[d] = static_cast<double>(any_float(random));
  for (const bool is_distance : {false, true}) {
    const auto score = is_distance ? table.distance_rows : table.dot_rows;
    const auto expected = is_distance ? scalar_table()->distance_rows : scalar_table()->dot_rows;
    for (const std::int64_t* list : {static_cast<const std::int64_t*>(nullptr), indices + 0}) {
      const std::size_t n = list == nullptr ? kRows : std::size(indices);
      std::vector<double> got(n), wanted(n);
      score(query.data(), rows.data(), dim, list, n, got.data());
      expected(query.data(), rows.data(), dim, list, n, wanted.data());
      if (!same_bits(got, wanted)) {
        report(table, is_distance ? "distance_rows" : "dot_rows", dim, 1, n);
      }
    }
  }
}

void check_tiles(const Table& table, std::size_t dim, std::mt19937& random) {
  constexpr std::size_t kQueries = 3, kStride = kTileRows + 1;  // two at a time, and one
  const std::size_t padded = (dim + kLanes - 1) / kLanes * kLanes;
  std::vector<double> tile(padded * kTileRows, 0.0), queries(kQueries * padded, 0.0);
  std::vector<float> rows(kTileRows * dim);
  for (float& value : rows) value = any_float(random);
  for (std::size_t d = 0; d < dim; ++d) {
    for (std::size_t r = 0; r < kTileRows; ++r) {
      tile[d * kTileRows + r] = static_cast<double>(rows[r * dim + d]);
    }
    for (std::size_t q = 0; q < kQueries; ++q) {
      queries[q * padded + d] = static_cast<double>(any_float(random));
    }
  }
  const double* starts[kQueries];
  for (std::size_t q = 0; q < kQueries; ++q) starts[q] = queries.data() + q * padded;
  for (const bool is_distance : {false, true}) {
    const auto expected = is_distance ? scalar_table()->distance_rows : scalar_table()->dot_rows;
    std::vector<double> got(kQueries * kStride, -1.0), wanted = got;
    (is_distance ? table.distance_tile : table.dot_tile)(starts, kQueries, tile.data(), padded,
                                                         got.data(), kStride);
    for (std::size_t q = 0; q < kQueries; ++q) {
      expected(starts[q], rows.data(), dim, nullptr, kTileRows, wanted.data() + q * kStride);
    }
    if (!same_bits(got, wanted)) {
      report(table, is_distance ? "distance_tile" : "dot_tile", dim, kQueries, 1);
    }
  }
}

// ---- the scan ----

enum class Fill { kRandom, kLargest, kSmallest, kMixed };

std::vector<std::tuple<std::uint32_t, std::uint32_t, std::int32_t>> sorted_hits(
    const std::vector<Hit>& hits) {
  std::vector<std::tuple<std::uint32_t, std::uint32_t, std::int32_t>> sorted;
  for (const Hit& hit : hits) sorted.emplace_back(hit.query, hit.item, hit.dot);
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

struct ScanCase {
  ScanCase(const Table& table, std::size_t dim, std::size_t queries, std::size_t blocks, Fill fill,
           std::mt19937& random)
      : n_groups((dim + 7) / 8 * 2), n_queries(queries), n_blocks(blocks) {
    codes.resize(n_blocks * n_groups * kGroupBytes);
    query_codes.resize(n_groups * n_queries * kGroupDims);
    const int largest = table.query_max;
    for (std::uint8_t& code : codes) {
      const int value = static_cast<int>(random() % 256);
      code = static_cast<std::uint8_t>(fill == Fill::kRandom  ? value
                                       : fill == Fill::kMixed ? (value % 2 == 0 ? 0 : 255)
                                                              : 255);
    }
    for (std::int8_t& code : query_codes) {
      const int value = static_cast<int>(random() % static_cast<unsigned>(2 * largest + 1));
      code = static_cast<std::int8_t>(fill == Fill::kRandom    ? value - largest
                                      : fill == Fill::kLargest ? largest
                                      : fill == Fill::kSmallest
                                          ? -largest
                                          : (value % 2 == 0 ? largest : -largest));
    }
  }

  // The dot products, then their maxima.
  std::vector<std::int32_t> dots(const Table& table) const {
    const std::size_t n_dots = n_queries * n_blocks * kBlockItems;
    std::vector<std::int32_t> out(n_dots + n_queries * n_blocks * kMaximaLanes, -1);
    table.dots(codes.data(), n_blocks, n_groups, query_codes.data(), n_queries, out.data(),
               out.data() + n_dots);
    return out;
  }

  std::vector<std::tuple<std::uint32_t, std::uint32_t, std::int32_t>> hits(
      const Table& table, const std::int32_t* thresholds) const {
    std::vector<Hit> found(kMaxScanBlocks * kBlockItems * n_queries);
    // A hint past the end of the codes does no harm.
    found.resize(table.scan(codes.data(), n_blocks, n_groups, query_codes.data(), n_queries,
                            thresholds, {codes.data() + codes.size(), 128}, found.data()));
    return sorted_hits(found);
  }

  // By Table::many of the table, which takes the codes of each query in a row.
  std::vector<std::tuple<std::uint32_t, std::uint32_t, std::int32_t>> hits_of_many(
      const Table& table, const std::int32_t* thresholds) const {
    std::vector<std::int8_t> rows(query_codes.size());
    std::vector<const std::int8_t*> starts;
    for (std::size_t q = 0; q < n_queries; ++q) {
      std::int8_t* row = rows.data() + q * n_groups * kGroupDims;
      for (std::size_t g = 0; g < n_groups; ++g) {
        std::memcpy(row + g * kGroupDims, query_codes.data() + (g * n_queries + q) * kGroupDims,
                    kGroupDims);
      }
      starts.push_back(row);
    }
    std::vector<std::int8_t> packed(table.many->packed_bytes(n_groups, n_queries));
    table.many->pack(starts.data(), n_queries, n_groups, packed.data());
    std::vector<Hit> found(kMaxScanBlocks * kBlockItems * n_queries);
    found.resize(table.many->scan(codes.data(), n_blocks, n_groups, packed.data(), n_queries,
                                  thresholds, {codes.data() + codes.size(), 128}, found.data()));
    return sorted_hits(found);
  }

  // Half of the codes as nibbles, of the first query alone: dot products, then hits.
  std::vector<std::tuple<std::uint32_t, std::uint32_t, std::int32_t>> nibble_hits(
      const Table& table, const std::vector<std::int8_t>& query,
      const std::int32_t* thresholds) const {
    std::vector<Hit> found(kMaxScanBlocks * kBlockItems);
    found.resize(table.scan_nibbles(codes.data(), n_blocks, n_groups, query.data(), thresholds,
                                    found.data()));
    return sorted_hits(found);
  }

  std::size_t n_groups, n_queries, n_blocks;
  std::vector<std::uint8_t> codes;
  std::vector<std::int8_t> query_codes;
};

constexpr std::int32_t kNoItem = kPruned;
constexpr std::int32_t kEveryItem = -2147483000;
constexpr std::int32_t kTaken = std::numeric_limits<std::int32_t>::min();  // as in scan.hpp

// Thresholds equal to some dot product of the block: "above" must not mean "equal".
void set_thresholds(const ScanCase& scan, const std::vector<std::int32_t>& dots, unsigned round,
                    std::mt19937& random, std::int32_t* thresholds) {
  for (std::size_t q = 0; q < scan.n_queries; ++q) {
    for (std::size_t b = 0; b < scan.n_blocks; ++b) {
      const std::int32_t* block = dots.data() + (q * scan.n_blocks + b) * kBlockItems;
      std::int32_t& threshold = thresholds[q * kMaxScanBlocks + b];
      switch ((round + random()) % 5) {
        case 0:
          threshold = kNoItem;
          break;
        case 1:
          threshold = round == 0 ? kEveryItem : kNoItem;
          break;
        case 2:
          threshold = *std::max_element(block, block + kBlockItems);
          break;
        case 3:
          threshold = *std::max_element(block, block + kBlockItems) - 1;
          break;
        default:
          threshold = block[random() % kBlockItems];
      }
    }
  }
}

void check_scan(const Table& table, std::size_t dim, std::size_t n_queries, std::size_t n_blocks,
                Fill fill, std::mt19937& random) {
  const ScanCase scan(table, dim, n_queries, n_blocks, fill, random);
  const std::vector<std::int32_t> dots = scan.dots(*scalar_table());
  if (!same_bits(scan.dots(table), dots)) report(table, "dots", dim, n_queries, n_blocks);
  std::int32_t thresholds[kMaxTile * kMaxScanBlocks] = {};
  for (unsigned round = 0; round < 2; ++round) {
    set_thresholds(scan, dots, round, random, thresholds);
    if (scan.hits(table, thresholds) != scan.hits(*scalar_table(), thresholds)) {
      report(table, "scan", dim, n_queries, n_blocks);
    }
  }
}

void check_many(const Table& table, std::size_t dim, std::size_t n_queries, std::size_t n_blocks,
                Fill fill, std::mt19937& random) {
  const ScanCase scan(table, dim, n_queries, n_blocks, fill, random);
  const std::vector<std::int32_t> dots = scan.dots(*scalar_table());
  std::int32_t thresholds[kMaxTile * kMaxScanBlocks] = {};
  for (unsigned round = 0; round < 2; ++round) {
    set_thresholds(scan, dots, round, random, thresholds);
    if (scan.hits_of_many(table, thresholds) != scan.hits(*scalar_table(), thresholds)) {
      report(table, "scan of many", dim, n_queries, n_blocks);
    }
  }
  std::fill(std::begin(thresholds), std::end(thresholds), kNoItem);
  if (!scan.hits_of_many(table, thresholds).empty()) {
    report(table, "scan of many that finds nothing", dim, n_queries, n_blocks);
  }
}

// The hits of one query among dot products that are kept.
std::vector<std::tuple<std::uint32_t, std::uint32_t, std::int32_t>> picked_hits(
    const Table& table, const std::int32_t* dots, const std::int32_t* maxima, std::size_t n_blocks,
    const std::int32_t* thresholds, std::size_t q) {
  std::vector<Hit> found(kMaxScanBlocks * kBlockItems);
  found.resize(table.pick(dots, maxima, n_blocks, thresholds, found.data()));
  for (Hit& hit : found) hit.query = static_cast<std::uint32_t>(q);
  return sorted_hits(found);
}

// Takes the largest of each block, and about an eighth of the others.
void take_some(std::int32_t* dots, std::size_t n_blocks, std::mt19937& random) {
  for (std::size_t b = 0; b < n_blocks; ++b, dots += kBlockItems) {
    *std::max_element(dots, dots + kBlockItems) = kTaken;
    for (std::size_t i = 0; i < kBlockItems; ++i) {
      if (random() % 8 == 0) dots[i] = kTaken;
    }
  }
}

// The hits of each query are those of a scan; and of items that are taken none, though the
// maxima still tell of them.
void check_pick(const Table& table, std::size_t dim, std::size_t n_queries, std::size_t n_blocks,
                Fill fill, std::mt19937& random) {
  const ScanCase scan(table, dim, n_queries, n_blocks, fill, random);
  std::vector<std::int32_t> dots = scan.dots(*scalar_table());
  std::int32_t thresholds[kMaxTile * kMaxScanBlocks] = {};
  set_thresholds(scan, dots, 0, random, thresholds);
  const auto expected = scan.hits(*scalar_table(), thresholds);
  std::vector<std::tuple<std::uint32_t, std::uint32_t, std::int32_t>> picked;
  for (std::size_t q = 0; q < n_queries; ++q) {
    std::int32_t* own = dots.data() + q * n_blocks * kBlockItems;
    const std::int32_t* maxima =
        dots.data() + n_queries * n_blocks * kBlockItems + q * n_blocks * kMaximaLanes;
    std::int32_t* limits = thresholds + q * kMaxScanBlocks;
    const auto hits = picked_hits(table, own, maxima, n_blocks, limits, q);
    picked.insert(picked.end(), hits.begin(), hits.end());
    take_some(own, n_blocks, random);
    limits[random() % n_blocks] = kTaken;  // the lowest threshold of all
    if (picked_hits(table, own, maxima, n_blocks, limits, q) !=
        picked_hits(*scalar_table(), own, maxima, n_blocks, limits, q)) {
      report(table, "pick of items taken", dim, n_queries, n_blocks);
    }
  }
  if (picked != expected) report(table, "pick", dim, n_queries, n_blocks);
}

void check_nibbles(const Table& table, std::size_t dim, std::size_t n_blocks, Fill fill,
                   std::mt19937& random) {
  const ScanCase scan(table, dim, 1, n_blocks, fill, random);
  std::vector<std::int8_t> query(scan.query_codes.size());
  for (std::int8_t& code : query) {
    const int value = static_cast<int>(random() % (2 * kNibbleQueryMax + 1)) - kNibbleQueryMax;
    code = static_cast<std::int8_t>(fill == Fill::kRandom     ? value
                                    : fill == Fill::kSmallest ? -kNibbleQueryMax
                                                              : kNibbleQueryMax);
  }
  std::int32_t thresholds[kMaxScanBlocks];
  std::fill(thresholds, thresholds + kMaxScanBlocks, kEveryItem);
  const auto all = scan.nibble_hits(*scalar_table(), query, thresholds);
  if (scan.nibble_hits(table, query, thresholds) != all) {
    report(table, "scan_nibbles", dim, 1, n_blocks);
  }
  for (std::size_t b = 0; b < n_blocks; ++b) {  // some item's own dot product, or no item at all
    thresholds[b] =
        random() % 4 == 0 ? kNoItem : std::get<2>(all[b * kBlockItems + random() % kBlockItems]);
  }
  if (scan.nibble_hits(table, query, thresholds) !=
      scan.nibble_hits(*scalar_table(), query, thresholds)) {
    report(table, "scan_nibbles", dim, 1, n_blocks);
  }
}

// ---- thresholds ----

void check_thresholds(const Table& table, std::size_t n_blocks, std::mt19937& random) {
  std::vector<double> columns[6];
  std::lognormal_distribution<double> size(0.0, 3.0);
  for (std::vector<double>& column : columns) {
    for (std::size_t b = 0; b < n_blocks + 3; ++b) column.push_back(size(random));
  }
  const BlockStats stats = {columns[0].data(), columns[1].data(), columns[2].data(),
                            columns[3].data(), columns[4].data(), columns[5].data()};
  std::normal_distribution<double> needed(0.0, 100.0);
  const QueryBound bound = {needed(random), 1e-9,         size(random),
                            size(random),   size(random), 1000.0 * needed(random)};
  std::vector<std::int32_t> got(n_blocks), wanted(n_blocks);
  table.thresholds(&stats, 3, n_blocks, &bound, got.data());
  scalar_table()->thresholds(&stats, 3, n_blocks, &bound, wanted.data());
  if (!same_bits(got, wanted)) report(table, "thresholds", 0, 1, n_blocks);
}

// Every number of queries, and every number of groups up to three steps of sixteen.
void check_all_of_many(const Table& table, std::mt19937& random) {
  for (std::size_t n_queries = 1; n_queries <= table.many->tile; ++n_queries) {
    for (const std::size_t dim : {1, 24, 64, 65, 200}) {
      check_many(table, dim, n_queries, 1 + n_queries % 5, Fill::kRandom, random);
    }
  }
  for (std::size_t dim = 8; dim <= 8 * 24; dim += 8) {
    for (const Fill fill : {Fill::kRandom, Fill::kLargest, Fill::kSmallest, Fill::kMixed}) {
      check_many(table, dim, 1 + dim % table.many->tile, 1 + dim % kMaxScanBlocks, fill, random);
    }
  }
}

}  // namespace

int check_kernels(const Table& table) {
  n_errors = 0;
  std::mt19937 random(20240229);
  if (table.many != nullptr) check_all_of_many(table, random);
  for (const std::size_t dim : dims()) {
    for (int repeat = 0; repeat < 20; ++repeat) check_rows(table, dim, random);
    for (int repeat = 0; repeat < 5; ++repeat) check_tiles(table, dim, random);
    for (const Fill fill : {Fill::kRandom, Fill::kLargest, Fill::kSmallest, Fill::kMixed}) {
      check_nibbles(table, dim, 1 + dim % kMaxScanBlocks, fill, random);
    }
    for (std::size_t n_queries = 1; n_queries <= table.query_tile; ++n_queries) {
      for (const Fill fill : {Fill::kRandom, Fill::kLargest, Fill::kSmallest, Fill::kMixed}) {
        check_scan(table, dim, n_queries, 1 + (dim + n_queries) % kMaxScanBlocks, fill, random);
        check_pick(table, dim, n_queries, 1 + (dim + n_queries) % kMaxScanBlocks, fill, random);
      }
    }
  }
  for (std::size_t n_blocks = 1; n_blocks <= kMaxScanBlocks; ++n_blocks) {
    for (std::size_t n_queries = 1; n_queries <= table.query_tile; ++n_queries) {
      check_scan(table, 33, n_queries, n_blocks, Fill::kRandom, random);
    }
    for (int repeat = 0; repeat < 1000; ++repeat) check_thresholds(table, n_blocks, random);
  }
  return n_errors;
}
