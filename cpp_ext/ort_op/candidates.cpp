#include "ort_op/candidates.hpp"

#include <algorithm>
#include <exception>
#include <limits>
#include <mutex>
#include <stdexcept>

#include "shortlist/neighbor.hpp"

namespace shortlist::ort_op {
namespace {

constexpr float kNoScore = -std::numeric_limits<float>::infinity();
// Requests that one task scores.
constexpr std::size_t kPerTask = 8;

std::size_t whole(std::int64_t size) {
  return static_cast<std::size_t>(size);
}

// Not inline, as GCC would ask for the address of what belongs to the thread at every use.
[[gnu::noinline]] std::vector<std::uint64_t>& thread_keys() {
  static thread_local std::vector<std::uint64_t> keys;
  return keys;
}

}  // namespace

void throw_bad(const std::string& name, const std::string& argument, const std::string& got,
               const std::string& expected) {
  throw std::invalid_argument("ai.shortlist." + name + ": " + argument + ": got " + got +
                              ", expected " + expected);
}

Tensor read_constant(const OrtApi& api, const OrtKernelInfo* info, const std::string& name,
                     std::size_t number, const std::string& argument, std::size_t rank) {
  const OrtValue* value = nullptr;
  int is_constant = 0;
  check(api.KernelInfoGetConstantInput_tensor(info, number, &is_constant, &value));
  if (is_constant == 0 || value == nullptr) {
    throw_bad(name, argument, "no constant", "an initializer of the graph");
  }
  Tensor tensor = read_tensor(api, value);
  if (tensor.shape.size() != rank) {
    throw_bad(name, argument, "shape " + to_text(tensor.shape),
              std::to_string(rank) + " dimensions");
  }
  return tensor;
}

Candidates::Candidates(const OrtApi& api, OrtKernelContext* context, const char* name,
                       std::size_t n_codes)
    : api_(api), context_(context), name_(name), n_codes_(n_codes) {
  is_on_ = read_number(kStages, "stages", 1, 2) == 2;
  top_n_ = whole(read_number(kTopN, "top_n", 1, std::numeric_limits<std::int64_t>::max()));
  read_input(api, context, kRows, &rows_);
  if (rows_.shape.size() != 2) throw_bad(name_, "rows", "shape " + to_text(rows_.shape), "(n, m)");
  n_ = whole(rows_.shape[0]);
  m_ = whole(rows_.shape[1]);
  read_like_rows(kScores, "scores", &scores_);
  width_ = n_real_places();
  if (is_on_) read_requests();
  const std::vector<std::int64_t> shape = {rows_.shape[0], static_cast<std::int64_t>(top_n_)};
  best_rows_ = static_cast<std::int64_t*>(make_output(api, context, kBestRows, shape));
  best_scores_ = static_cast<float*>(make_output(api, context, kBestScores, shape));
  counts_ = static_cast<std::int64_t*>(make_output(api, context, kCounts, {shape[0]}));
}

std::int64_t Candidates::read_number(Input input, const char* argument, std::int64_t least,
                                     std::int64_t most) const {
  Tensor tensor;
  read_input(api_, context_, input, &tensor);
  if (tensor.size == 1) {
    const std::int64_t number = *tensor.as<std::int64_t>();
    if (number >= least && number <= most) return number;
  }
  const std::string expected = most == 2 ? "1 or 2" : "at least " + std::to_string(least);
  if (tensor.size != 1) {
    throw_bad(name_, argument, "shape " + to_text(tensor.shape), "one number, " + expected);
  }
  throw_bad(name_, argument, std::to_string(*tensor.as<std::int64_t>()), expected);
}

void Candidates::read_like_rows(Input input, const char* argument, Tensor* tensor) const {
  read_input(api_, context_, input, tensor);
  if (tensor->shape == rows_.shape) return;
  throw_bad(name_, argument, "shape " + to_text(tensor->shape), to_text(rows_.shape) + " as rows");
}

// Up to the last item of the longest answer: more was asked for than there is.
std::size_t Candidates::n_real_places() const {
  std::size_t most = 0;
  for (std::size_t request = 0; request < n_; ++request) {
    std::size_t n = m_;
    while (n > most && is_missing(request, n - 1)) --n;
    most = std::max(most, n);
  }
  return most;
}

// What only the second stage looks at.
void Candidates::read_requests() {
  read_like_rows(kCodes, "codes", &codes_);
  read_input(api_, context_, kHistory, &history_);
  read_input(api_, context_, kNKnown, &n_known_);
  if (history_.shape.size() != 2 || whole(history_.shape[0]) != n_) {
    throw_bad(name_, "history", "shape " + to_text(history_.shape),
              "(" + std::to_string(n_) + ", length)");
  }
  length_ = whole(history_.shape[1]);
  if (n_known_.size != n_) {
    throw_bad(name_, "n_known", "shape " + to_text(n_known_.shape),
              "(" + std::to_string(n_) + ",)");
  }
  check_codes();
}

void Candidates::check_codes() const {
  const std::int64_t* const codes = codes_.as<std::int64_t>();
  std::uint64_t most = 0;  // a negative one is very large
  for (std::size_t i = 0; i < codes_.size; ++i) {
    most = std::max(most, static_cast<std::uint64_t>(codes[i]));
  }
  if (most >= n_codes_) throw_code("codes", static_cast<std::int64_t>(most));
}

void Candidates::throw_code(const char* argument, std::int64_t code) const {
  throw_bad(name_, argument, std::to_string(code),
            "0 to " + std::to_string(n_codes_ - 1) + ", the rows of the tables");
}

void Candidates::read_latest(std::size_t request, std::size_t limit,
                             std::vector<std::int64_t>* latest) const {
  latest->clear();
  limit = std::min(limit, whole(n_known_.as<std::int64_t>()[request]));
  const std::int64_t* const codes = history_.as<std::int64_t>() + request * length_;
  for (std::size_t i = length_; i-- > 0 && latest->size() < limit;) {
    if (codes[i] <= 0) continue;
    if (whole(codes[i]) >= n_codes_) throw_code("history", codes[i]);
    latest->push_back(codes[i]);
  }
}

void Candidates::share_out(const void* score, Work work) const {
  struct Shares {
    const Candidates& candidates;
    const void* score;
    Work work;
    std::mutex mutex;
    std::exception_ptr error;
  } shares{*this, score, work, {}, {}};
  const auto run = [](void* data, std::size_t task) {
    Shares& all = *static_cast<Shares*>(data);
    const Candidates& self = all.candidates;
    try {
      std::vector<float> scores(self.width_);
      const std::size_t end = std::min(self.n_, (task + 1) * kPerTask);
      for (std::size_t request = task * kPerTask; request < end; ++request) {
        if (!self.is_reranked(request)) {
          self.keep_first(request);
          continue;
        }
        all.work(all.score, request, &scores);
        self.write_best(request, scores);
      }
    } catch (...) {
      const std::lock_guard<std::mutex> lock(all.mutex);
      if (!all.error) all.error = std::current_exception();
    }
  };
  const std::size_t n_tasks = (n_ + kPerTask - 1) / kPerTask;
  if (n_tasks == 1) {
    run(&shares, 0);
  } else if (n_tasks > 1) {
    check(api_.KernelContext_ParallelFor(context_, run, n_tasks, 0, &shares));
  }
  if (shares.error) std::rethrow_exception(shares.error);
}

void Candidates::keep_first(std::size_t request) const {
  const std::size_t n = std::min(m_, top_n_);
  const std::int64_t* const rows = rows_.as<std::int64_t>() + request * m_;
  std::int64_t* const best = best_rows_ + request * top_n_;
  std::fill(std::copy_n(rows, n, best), best + top_n_, -1);
  if (best_scores_ != nullptr) {
    float* const to = best_scores_ + request * top_n_;
    std::fill(std::copy_n(scores(request), n, to), to + top_n_, kNoScore);
  }
  if (counts_ == nullptr) return;
  counts_[request] = std::count_if(rows, rows + n, [](std::int64_t row) { return row >= 0; });
}

void Candidates::write_best(std::size_t request, const std::vector<float>& scores) const {
  std::vector<std::uint64_t>& keys = thread_keys();
  const std::int64_t* const rows = rows_.as<std::int64_t>() + request * m_;
  keys.resize(width_);
  std::size_t n_real = 0;
  for (std::size_t i = 0; i < width_; ++i) {
    // Not a number is worse than anything: an order needs to know. 0 is added against -0.
    const float score = scores[i] == scores[i] ? scores[i] + 0.0F : kNoScore;
    keys[n_real] = key_of({score, rows[i]});
    n_real += rows[i] >= 0;
  }
  keys.resize(n_real);
  if (keys.size() > top_n_) keep_least(keys, top_n_);
  sort_keys(keys);
  for (std::size_t i = 0; i < top_n_; ++i) {
    const Neighbor best = i < keys.size() ? neighbor_of(keys[i]) : Neighbor{kNoScore, -1};
    best_rows_[request * top_n_ + i] = best.row;
    if (best_scores_ != nullptr) best_scores_[request * top_n_ + i] = best.score;
  }
  if (counts_ != nullptr) counts_[request] = static_cast<std::int64_t>(keys.size());
}

}  // namespace shortlist::ort_op
