// The table of functions that every instruction set implements. C types only: kernel files include
// nothing else but intrinsics, because a template instantiated there would carry that instruction
// set into the whole library.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace shortlist::kernels {

// Exact scores are summed in float64 in one order on every level: element i goes to lane i % 16,
// lanes are added as w[k] = (l[k] + l[k+4]) + (l[k+8] + l[k+12]), sum = (w[0]+w[2]) + (w[1]+w[3]).
// The product of two float32 is exact in float64, so fused and separate multiply-add agree.
constexpr size_t kLanes = 16;
// Rows that several queries are scored with together.
constexpr size_t kTileRows = 16;

// Items of one block are scanned together: codes[block][group][item][4], unsigned with offset 128,
// where group g holds dimensions 4g..4g+3; the number of groups is even. A tile of queries is
// interleaved the same way: queries[group][query][4].
constexpr size_t kBlockItems = 64;
constexpr size_t kGroupDims = 4;
constexpr size_t kGroupBytes = kBlockItems * kGroupDims;
constexpr int32_t kCodeOffset = 128;
constexpr size_t kCacheLine = 64;

// The high four bits of the codes once more, half the bytes: nibbles[block][pair][item][4], where
// the low half of a byte of pair p belongs to group 2p and the high half to group 2p + 1. An
// unsigned code c lies at most 7.5 from the middle 16 * (nibble - kNibbleOffset) + 128 of those
// that share its nibble.
constexpr double kNibbleOffset = 7.53125;
// Query codes for nibbles, on any level: 4 * 15 * 127 stays below 2^15.
constexpr int32_t kNibbleQueryMax = 127;

// The threshold of a block where nothing can be found; no dot product reaches it.
constexpr int32_t kPruned = 2147483000;

// Most queries a scan call takes on any level.
constexpr size_t kMaxTile = 32;
// Most blocks a scan call takes; a call can report kMaxScanBlocks * kBlockItems * n_queries hits.
constexpr size_t kMaxScanBlocks = 32;

// The maxima of a block that a kernel reports.
constexpr size_t kMaximaLanes = 8;

// An item whose integer dot product is above its threshold.
struct Hit {
  uint32_t item;  // position, counted from the first item of the first block of the call
  uint32_t query;
  int32_t dot;  // sum of unsigned code * query code, offset included
};

// What a scan asks the memory for meanwhile: n_bytes from `codes` on with the first block, the next
// n_bytes with the second, and so on. A hint: nothing is read, the addresses need not exist.
struct Ahead {
  const uint8_t* codes;
  size_t n_bytes;  // a multiple of kCacheLine
};

// What the bound needs to know about each block (parallel arrays), docs/exact_top_n.md.
struct BlockStats {
  const double* inverse_scale;  // 1 / s; items with scales of their own: of the largest
  const double* inverse_least;  // 1 / the smallest scale of the block; 1 / s where there is one
  const double* residual;       // r: max ||x - s c||
  const double* code_norm;      // m: max ||s c||
  const double* norm;           // max ||x||
  const double* half_square;    // h: min ||x||^2 / 2, zero unless the metric is euclidean
};

// What the bound needs to know about one query. An item can enter the answer only if
// u.x - h > needed.
struct QueryBound {
  double needed;
  double slack;          // absolute rounding allowance for `needed`
  double norm;           // ||u||
  double residual;       // ||u - t p||
  double inverse_scale;  // 1 / t
  double offset;         // kCodeOffset * sum of p
};

// A scan of many queries at once, with matrix instructions.
struct ManyQueries {
  size_t tile;  // most queries of a call
  // With fewer queries, or fewer of them times groups, Table::scan is faster.
  size_t least_queries;
  size_t least_products;
  // Bytes that `pack` writes.
  size_t (*packed_bytes)(size_t n_groups, size_t n_queries);
  // queries[i] = n_groups * kGroupDims codes of one query.
  void (*pack)(const int8_t* const* queries, size_t n_queries, size_t n_groups, int8_t* out);
  // Table::scan of packed queries.
  size_t (*scan)(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
                 size_t n_queries, const int32_t* thresholds, Ahead ahead, Hit* hits);
};

struct Table {
  const char* name;
  // Query codes are rounded to [-query_max, query_max]; scan takes at most query_tile queries.
  int32_t query_max;
  size_t query_tile;
  // out[i] = sum over d of query[d] * row[d]; row = rows + indices[i] * dim (or i * dim if indices
  // is null). query is float64, zero-padded to a multiple of kLanes. Rows need no alignment.
  void (*dot_rows)(const double* query, const float* rows, size_t dim, const int64_t* indices,
                   size_t n_rows, double* out);
  // out[i] = sum over d of (query[d] - row[d])^2, each square rounded before it is added.
  void (*distance_rows)(const double* query, const float* rows, size_t dim, const int64_t* indices,
                        size_t n_rows, double* out);
  // The same of several queries with a tile of rows, tile[d][row] in float64, of kTileRows rows and
  // dim a multiple of kLanes (zero beyond the rows' own): out[q * stride + row].
  void (*dot_tile)(const double* const* queries, size_t n_queries, const double* tile, size_t dim,
                   double* out, size_t stride);
  void (*distance_tile)(const double* const* queries, size_t n_queries, const double* tile,
                        size_t dim, double* out, size_t stride);
  // out[b] = the largest integer dot product that prunes an item of block first + b.
  void (*thresholds)(const BlockStats* stats, size_t first, size_t n_blocks,
                     const QueryBound* query, int32_t* out);
  // Reports every item of n_blocks blocks with dot > thresholds[query * kMaxScanBlocks + block];
  // returns the number of hits. n_groups is even. Hits come in no particular order.
  size_t (*scan)(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
                 size_t n_queries, const int32_t* thresholds, Ahead ahead, Hit* hits);
  // The same of one query and the nibbles: dot = sum of nibble * query code.
  size_t (*scan_nibbles)(const uint8_t* nibbles, size_t n_blocks, size_t n_groups,
                         const int8_t* query, const int32_t* thresholds, Hit* hits);
  // The dot products themselves, dots[(query * n_blocks + block) * kBlockItems + item], and
  // maxima[(query * n_blocks + block) * kMaximaLanes + lane] = the largest of them among the items
  // lane, lane + kMaximaLanes, ... of the block.
  void (*dots)(const uint8_t* codes, size_t n_blocks, size_t n_groups, const int8_t* queries,
               size_t n_queries, int32_t* dots, int32_t* maxima);
  // The hits among such dot products of one query, where a block's maxima reach its threshold.
  size_t (*pick)(const int32_t* dots, const int32_t* maxima, size_t n_blocks,
                 const int32_t* thresholds, Hit* hits);
  // out[block * n_parts + part] = about the best score - h (for cosine and dot: the best score) in
  // a part of block first + block, from one query's maxima; n_parts is 1 or kMaximaLanes.
  void (*best_scores)(const BlockStats* stats, size_t first, size_t n_blocks,
                      const QueryBound* query, const int32_t* maxima, size_t n_parts, float* out);
  // Short codes, a byte each, as `scan` and `dots` want them: [n_blocks][n_groups][64][4]. Those of
  // six bits have quarters (PackedItems), those of four null. n_groups is even.
  void (*widen)(const uint8_t* nibbles, const uint8_t* quarters, size_t n_blocks, size_t n_groups,
                uint8_t* out);
  const ManyQueries* many;  // null on most levels
};

const Table* scalar_table();
// Defined in builds for x86-64; the caller has asked the CPU.
const Table* avx2_table();
const Table* avxvnni_table();
const Table* avx512_table();
const Table* amx_table();   // the caller has the system's permission, too
const Table* neon_table();  // defined in builds for aarch64

}  // namespace shortlist::kernels
