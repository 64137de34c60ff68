// What the rerankers have in common: the candidates of a first stage, read and checked, and their
// best by new scores.
//
// Inputs of every reranker
//   rows      int64 (n, m): item rows of the first stage's answer; -1 at missing places
//   scores    float (n, m): its scores
//   codes     int64 (n, m): the codes of the rows, which tables are read by (row + 1; 0 for an item
//             that came after the training and at missing places)
//   history   int64 (n, length): item codes, oldest first; 0 or less = no known item
//   n_known   int64 (n,): known items of each history; 0 = the first stage's answer stays
//   top_n     int64, one number >= 1: how many of the candidates come back
//   stages    int64, one number: 1 = the first stage's answer stays for all, 2
// Outputs of every reranker
//   rows      int64 (n, top_n): by the new score, of equal ones the lower row first; -1 at missing
//   scores    float (n, top_n): the new ones; -infinity at missing places
//   counts    int64 (n,): how many places are real
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ort_op/ort_api.hpp"

namespace shortlist::ort_op {

class Candidates {
 public:
  enum Input : std::size_t { kRows, kScores, kCodes, kHistory, kNKnown, kTopN, kStages, kNInputs };
  enum Output : std::size_t { kBestRows, kBestScores, kCounts, kNOutputs };

  // `name` is what errors call the operator. All codes are rows of a table with n_codes of them.
  // Throws std::invalid_argument.
  Candidates(const OrtApi& api, OrtKernelContext* context, const char* name, std::size_t n_codes);

  // Scores all requests and writes their best. `score(request, scores)` fills the
  // n_candidates() new scores of one request; what it writes at missing places does not count.
  // Called from several threads at once, and not for requests whose first answer stays.
  template <class Score>
  void rerank(const Score& score) const;

  std::size_t n_requests() const { return n_; }
  // Places that hold an item in one of the answers at least, m or fewer.
  std::size_t n_candidates() const { return width_; }
  const std::int64_t* codes(std::size_t request) const {
    return codes_.as<std::int64_t>() + request * m_;
  }
  const float* scores(std::size_t request) const { return scores_.as<float>() + request * m_; }
  bool is_missing(std::size_t request, std::size_t i) const {
    return rows_.as<std::int64_t>()[request * m_ + i] < 0;
  }
  // The last known codes of a history, at most `limit`, the newest first. Throws
  // std::invalid_argument for one that is too large.
  void read_latest(std::size_t request, std::size_t limit, std::vector<std::int64_t>* latest) const;

 private:
  using Work = void (*)(const void* self, std::size_t request, std::vector<float>* scores);

  bool is_reranked(std::size_t request) const {
    return is_on_ && n_known_.as<std::int64_t>()[request] > 0;
  }
  std::int64_t read_number(Input input, const char* argument, std::int64_t least,
                           std::int64_t most) const;
  void read_like_rows(Input input, const char* argument, Tensor* tensor) const;
  std::size_t n_real_places() const;
  void read_requests();
  void check_codes() const;
  [[noreturn]] void throw_code(const char* argument, std::int64_t code) const;
  void share_out(const void* score, Work work) const;
  void keep_first(std::size_t request) const;
  void write_best(std::size_t request, const std::vector<float>& scores) const;

  const OrtApi& api_;
  OrtKernelContext* context_;
  std::string name_;
  std::size_t n_codes_;
  Tensor rows_, scores_, codes_, history_, n_known_;
  std::size_t n_ = 0, m_ = 0, width_ = 0, length_ = 0, top_n_ = 0;
  bool is_on_ = false;
  std::int64_t* best_rows_ = nullptr;
  float* best_scores_ = nullptr;
  std::int64_t* counts_ = nullptr;
};

template <class Score>
void Candidates::rerank(const Score& score) const {
  share_out(&score, [](const void* given, std::size_t request, std::vector<float>* scores) {
    (*static_cast<const Score*>(given))(request, scores->data());
  });
}

// Throws std::invalid_argument for an input or attribute of the operator.
[[noreturn]] void throw_bad(const std::string& name, const std::string& argument,
                            const std::string& got, const std::string& expected);
// A constant of the node of so many dimensions, by its number; its memory lives as long as the
// node.
Tensor read_constant(const OrtApi& api, const OrtKernelInfo* info, const std::string& name,
                     std::size_t number, const std::string& argument, std::size_t rank);

}  // namespace shortlist::ort_op
