// One query, prepared for the scan and for exact scores (internal). Immutable after the
// constructor, so that the threads of a split search share it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "shortlist/filter.hpp"
#include "src/kernels/kernels.hpp"
#include "src/search/row_set.hpp"
#include "src/segments/snapshot.hpp"

namespace shortlist {

// An allow form that several queries of a call share, sorted once.
struct SharedAllow {
  bool is_set = false;
  std::vector<std::int64_t> rows;         // sorted, unique; used when `mask` is null
  const unsigned char* mask = nullptr;    // by row
  std::vector<unsigned char> owned_mask;  // made from a long list

  SharedAllow() = default;
  SharedAllow(const std::int64_t* allow_rows, std::size_t n_allow_rows, std::size_t n_rows);
  SharedAllow(const unsigned char* allow_mask, std::size_t n_rows);
};

// What the queries of a filter share: one form for all, or some masks.
class SharedAllows {
 public:
  // Prepares what the first n_queries of the filter use, each mask once.
  SharedAllows(const Filter& filter, std::size_t n_queries, std::size_t n_rows);
  const SharedAllow& of(std::size_t query) const {
    return forms_[form_of_.empty() ? 0 : form_of_[query]];
  }

 private:
  std::vector<SharedAllow> forms_;
  std::vector<std::size_t> form_of_;  // by query; empty = all have the first
};

// Lays the codes of a tile of queries out as kernels::Table wants them.
void interleave(const std::int8_t* const* codes, std::size_t n_queries, std::size_t n_groups,
                std::int8_t* out);

class PreparedQuery {
 public:
  // `number` selects this query's lists in the filter.
  PreparedQuery(const Snapshot& snapshot, const kernels::Table& table, const float* query,
                const Filter& filter, const SharedAllow& shared, std::size_t number);

  const double* exact() const { return exact_.data(); }
  // For codes of 8 bits; where a snapshot's storage has short codes alone, for those, a byte each.
  const std::int8_t* codes() const { return codes_.codes.data(); }
  // Finer ones for the nibbles, whose products are small; null where no segment has nibbles.
  const std::int8_t* nibble_codes() const { return nibble_codes_.codes.data(); }

  // The bound of an item that must beat `score` (a tie may win by its row).
  kernels::QueryBound bound_for(float score) const;
  // The score of an item for which u.x - h, as QueryBound::needed is one, has that value.
  float score_of(double product) const;
  // The same bound for dot products of nibbles and nibble_codes().
  kernels::QueryBound nibble_bound(const kernels::QueryBound& bound) const;

  bool is_filtered() const { return is_filtered_; }
  bool may_return(std::int64_t row) const { return !is_filtered_ || passes_filter(row); }
  // Few allowed rows: score exactly these instead of scanning. Null = no short list.
  const std::vector<std::int64_t>* short_list() const { return short_list_; }
  std::size_t n_allowed() const { return n_allowed_; }

 private:
  void set_filter(const Filter& filter, const SharedAllow& shared, std::size_t number,
                  std::size_t n_rows);
  bool passes_filter(std::int64_t row) const;

  // The query u rounded to integer codes p with scale t.
  struct Codes {
    std::vector<std::int8_t> codes;  // padded with zeros to whole groups
    double residual = 0;             // ||u - t p||
    double inverse_scale = 1;        // 1 / t
    double sum = 0;                  // of p
  };
  Codes round_to(std::int32_t query_max, std::size_t dim) const;

  Metric metric_;
  std::vector<double> exact_;
  Codes codes_, nibble_codes_;
  double nibble_offset_ = 0;
  kernels::QueryBound bound_{};
  double square_ = 0;
  RowSet excluded_;
  std::vector<std::int64_t> allowed_;
  const SharedAllow* shared_ = nullptr;
  bool has_own_list_ = false;
  bool is_filtered_ = false;
  const std::vector<std::int64_t>* short_list_ = nullptr;
  std::size_t n_allowed_ = 0;
};

}  // namespace shortlist
