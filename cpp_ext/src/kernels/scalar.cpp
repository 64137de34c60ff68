// The reference implementation of every kernel: plain loops, no intrinsics.
#include "src/kernels/kernels.hpp"
#include "src/kernels/thresholds.hpp"

namespace shortlist::kernels {
namespace {

double reduce_lanes(const double* lane) {
  double w[4];
  for (size_t k = 0; k < 4; ++k) w[k] = (lane[k] + lane[k + 4]) + (lane[k + 8] + lane[k + 12]);
  return (w[0] + w[2]) + (w[1] + w[3]);
}

template <bool kDistance>
double row_score(const double* query, const float* row, size_t dim) {
  double lane[kLanes] = {};
  const size_t whole = dim - dim % kLanes;
  for (size_t d = 0; d < whole; d += kLanes) {
    for (size_t k = 0; k < kLanes; ++k) {
      const double x = static_cast<double>(row[d + k]);
      const double a = kDistance ? query[d + k] - x : query[d + k];
      lane[k] += a * (kDistance ? a : x);
    }
  }
  for (size_t d = whole; d < dim; ++d) {
    const double x = static_cast<double>(row[d]);
    const double a = kDistance ? query[d] - x : query[d];
    lane[d - whole] += a * (kDistance ? a : x);
  }
  return reduce_lanes(lane);
}

template <bool kDistance>
void score_rows(const double* query, const float* rows, size_t dim, const int64_t* indices,
                size_t n_rows, double* out) {
  for (size_t i = 0; i < n_rows; ++i) {
    const size_t row = indices == nullptr ? i : static_cast<size_t>(indices[i]);
    out[i] = row_score<kDistance>(query, rows + row * dim, dim);
  }
}

// What exact_tile.hpp needs.
struct Vector {
  static constexpr size_t kWidth = 1;
  static constexpr size_t kQueries = 2;
  double v;

  static Vector load(const double* from) { return {*from}; }
  static void store(double* to, Vector a) { *to = a.v; }
  static Vector broadcast(double a) { return {a}; }
  static Vector zero() { return {0.0}; }
  static Vector add(Vector a, Vector b) { return {a.v + b.v}; }
  template <bool kDistance>
  static Vector add_term(Vector lane, Vector u, Vector x) {
    if (kDistance) {  // the square is not exact: multiply and add stay separate
      const double a = u.v - x.v;
      return {lane.v + a * a};
    }
    return {lane.v + u.v * x.v};
  }
};

// query points to its own four codes of group 0; the tile has n_queries.
void block_dots(const uint8_t* block, size_t n_groups, const int8_t* query, size_t n_queries,
                int32_t* dots) {
  for (size_t item = 0; item < kBlockItems; ++item) dots[item] = 0;
  for (size_t g = 0; g < n_groups; ++g) {
    const uint8_t* codes = block + g * kGroupBytes;
    const int8_t* q = query + g * n_queries * kGroupDims;
    for (size_t item = 0; item < kBlockItems; ++item) {
      for (size_t d = 0; d < kGroupDims; ++d) {
        dots[item] += static_cast<int32_t>(codes[item * kGroupDims + d]) * q[d];
      }
    }
  }
}

size_t scan_block(const uint8_t* block, size_t n_groups, const int8_t* query, size_t n_queries,
                  int32_t threshold, uint32_t first_item, uint32_t query_number, Hit* hits) {
  int32_t dots[kBlockItems];
  block_dots(block, n_groups, query, n_queries, dots);
  size_t n_hits = 0;
  for (size_t item = 0; item < kBlockItems; ++item) {
    if (dots[item] <= threshold) continue;
    hits[n_hits++] = {first_item + static_cast<uint32_t>(item), query_number, dots[item]};
  }
  return n_hits;
}

size_t scan(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
            size_t n_queries, const int32_t* thresholds, Ahead ahead, Hit* hits) {
  size_t n_hits = 0;
  for (size_t b = 0; b < n_blocks; ++b) {
    fetch(ahead);
    for (size_t q = 0; q < n_queries; ++q) {
      const int32_t threshold = thresholds[q * kMaxScanBlocks + b];
      if (threshold == kPruned) continue;
      n_hits += scan_block(codes + b * n_groups * kGroupBytes, n_groups, queries + q * kGroupDims,
                           n_queries, threshold, static_cast<uint32_t>(b * kBlockItems),
                           static_cast<uint32_t>(q), hits + n_hits);
    }
  }
  return n_hits;
}

size_t scan_nibbles(const uint8_t* nibbles, size_t n_blocks, size_t n_groups, const int8_t* query,
                    const int32_t* thresholds, Hit* hits) {
  size_t n_hits = 0;
  for (size_t b = 0; b < n_blocks; ++b, nibbles += n_groups / 2 * kGroupBytes) {
    if (thresholds[b] == kPruned) continue;
    for (size_t item = 0; item < kBlockItems; ++item) {
      int32_t dot = 0;
      for (size_t g = 0; g < n_groups; ++g) {
        const uint8_t* bytes = nibbles + g / 2 * kGroupBytes + item * kGroupDims;
        for (size_t d = 0; d < kGroupDims; ++d) {
          const int32_t nibble = g % 2 == 0 ? bytes[d] & 15 : bytes[d] >> 4;
          dot += nibble * query[g * kGroupDims + d];
        }
      }
      if (dot <= thresholds[b]) continue;
      hits[n_hits++] = {static_cast<uint32_t>(b * kBlockItems + item), 0, dot};
    }
  }
  return n_hits;
}

void dots(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
          size_t n_queries, int32_t* dots, int32_t* maxima) {
  for (size_t q = 0; q < n_queries; ++q) {
    for (size_t b = 0; b < n_blocks; ++b, dots += kBlockItems, maxima += kMaximaLanes) {
      block_dots(codes + b * n_groups * kGroupBytes, n_groups, queries + q * kGroupDims, n_queries,
                 dots);
      for (size_t lane = 0; lane < kMaximaLanes; ++lane) {
        maxima[lane] = dots[lane];
        for (size_t item = lane; item < kBlockItems; item += kMaximaLanes) {
          maxima[lane] = dots[item] > maxima[lane] ? dots[item] : maxima[lane];
        }
      }
    }
  }
}

size_t pick(const int32_t* dots, const int32_t*, size_t n_blocks, const int32_t* thresholds,
            Hit* hits) {
  size_t n_hits = 0;
  for (size_t i = 0; i < n_blocks * kBlockItems; ++i) {
    if (dots[i] <= thresholds[i / kBlockItems]) continue;
    hits[n_hits++] = {static_cast<uint32_t>(i), 0, dots[i]};
  }
  return n_hits;
}

int32_t largest(const int32_t* maxima) {
  int32_t most = maxima[0];
  for (size_t lane = 1; lane < kMaximaLanes; ++lane) {
    most = maxima[lane] > most ? maxima[lane] : most;
  }
  return most;
}

}  // namespace
}  // namespace shortlist::kernels

#include "src/kernels/fill_table.hpp"

namespace shortlist::kernels {

const Table* scalar_table() {
  static constexpr Table kTable = filled_table("scalar", 127, 4);
  return &kTable;
}

}  // namespace shortlist::kernels
