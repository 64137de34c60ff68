#include "src/search/varied.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "shortlist/thread_pool.hpp"
#include "src/kernels/simd.hpp"
#include "src/search/adjusted.hpp"
#include "src/search/choice.hpp"
#include "src/search/mmr.hpp"
#include "src/search/query.hpp"
#include "src/search/search.hpp"
#include "src/search/selection.hpp"

namespace shortlist {
namespace {

// Queries whose first lists are found together, and those that each have a mask of the catalogue.
constexpr std::size_t kGroupQueries = 1024, kMaskedQueries = 32;
// Items that are searched for n places, with some to spare. Benchmark: benchmarks/variety.py.
std::size_t with_spare(std::size_t n) {
  return n + n / 2 + 1;
}

// Found rows of some queries, k each.
struct Found {
  Found(std::size_t n, std::size_t most) : k(most), scores(n * k), rows(n * k), counts(n) {}
  SearchOutput output() { return {scores.data(), rows.data(), counts.data()}; }
  std::vector<Neighbor> list(std::size_t query) const {
    std::vector<Neighbor> found(static_cast<std::size_t>(counts[query]));
    for (std::size_t i = 0; i < found.size(); ++i) {
      found[i] = {scores[query * k + i], rows[query * k + i]};
    }
    return found;
  }
  bool is_all(std::size_t query) const { return static_cast<std::size_t>(counts[query]) < k; }

  std::size_t k;
  std::vector<float> scores;
  std::vector<std::int64_t> rows, counts;
};

// One query on its way to its list.
struct Task {
  Task(const Variety& variety, std::size_t query, std::size_t top_n)
      : number(query), selection(variety, query, top_n) {}

  std::size_t number;
  Selection selection;
  std::unique_ptr<Choice> choice;  // null where scores decide
  std::vector<unsigned char> mask;

  // Whether the next item is the one of the best score.
  bool takes_best() const { return choice == nullptr || choice->takes_best(); }
};

class VariedSearch {
 public:
  VariedSearch(const Snapshot& snapshot, const MatrixView& queries, std::size_t top_n,
               const Filter& filter, const Variety& variety, std::size_t n_threads,
               const SearchOutput& output, const std::function<void()>* between)
      : snapshot_(snapshot),
        queries_(queries),
        top_n_(top_n),
        filter_(filter),
        variety_(variety),
        n_threads_(n_threads),
        output_(output),
        between_(between) {}

  void run() {
    for (std::size_t first = 0; first < queries_.n_rows; first += kGroupQueries) {
      if (first > 0 && between_ != nullptr) (*between_)();
      const std::size_t end = std::min(queries_.n_rows, first + kGroupQueries);
      std::vector<std::unique_ptr<Task>> tasks;
      for (std::size_t q = first; q < end; ++q) {
        tasks.push_back(std::make_unique<Task>(variety_, q, top_n_));
      }
      search_first(first, end, tasks);
      for (std::size_t at = 0; at < tasks.size(); at += kMaskedQueries) {
        std::vector<Task*> open;
        for (std::size_t i = at; i < std::min(tasks.size(), at + kMaskedQueries); ++i) {
          if (!tasks[i]->selection.is_done()) open.push_back(tasks[i].get());
        }
        finish(open);
      }
      for (const auto& task : tasks) write(*task);
    }
  }

 private:
  // The best of all that the filter allows, for each query.
  void search_first(std::size_t first, std::size_t end,
                    const std::vector<std::unique_ptr<Task>>& tasks) {
    const std::size_t n_rows = std::max<std::size_t>(1, snapshot_.n_rows);
    Found found(end - first, std::min(with_spare(top_n_), n_rows));
    const MatrixView part = {queries_.row(first), end - first, queries_.dim};
    if (variety_.chosen == nullptr) {
      search_snapshot(snapshot_, part, found.k, filter_from(filter_, first), n_threads_,
                      found.output(), between_);
    }
    for_each(tasks.size(), [&](std::size_t i) {
      Task& task = *tasks[i];
      task.choice = choice_of(task.number);
      if (variety_.chosen != nullptr) return;
      if (task.choice == nullptr || task.choice->takes_best()) {
        return offer(task, found.list(i), found.is_all(i));
      }
      task.choice->know(found.list(i), found.is_all(i));
      task.choice->choose(&task.selection);
    });
  }

  std::unique_ptr<Choice> choice_of(std::size_t number) const {
    const double diversity = variety_.diversity_of(number);
    const bool is_adjusted = variety_.is_calibrated(number) || variety_.dampening_of(number) > 0;
    if (diversity <= 0 && !is_adjusted) return nullptr;
    const float* const vector = queries_.row(number);
    const PreparedQuery query(snapshot_, active_kernels(), vector, {}, {}, 0);
    if (diversity <= 0) {
      return std::make_unique<Adjusted>(snapshot_, active_kernels(), vector, query.exact(),
                                        variety_, number, top_n_, most_values_);
    }
    auto mmr =
        std::make_unique<Mmr>(snapshot_, active_kernels(), query.exact(), diversity, item_norm_);
    if (variety_.chosen == nullptr) return mmr;
    const std::int64_t* const lists = variety_.chosen_splits + number;
    for (std::int64_t at = lists[0]; at < lists[1]; ++at) {
      mmr->begin(variety_.chosen + static_cast<std::size_t>(at) * queries_.dim);
    }
    return mmr;
  }

  // Searches what is left of the catalogue for each query until all are done.
  void finish(std::vector<Task*> open) {
    while (!open.empty()) {
      std::vector<Task*> searched;
      for_each(open.size(), [&](std::size_t i) { look(*open[i]); });
      for (Task* task : open) {
        if (!task->selection.is_done()) searched.push_back(task);
      }
      if (!searched.empty()) search_left(searched);
      open.clear();
      for (Task* task : searched) {
        if (!task->selection.is_done()) open.push_back(task);
      }
    }
  }

  // Makes the mask of what the next search may find. Where a search would not pay, looks at all of
  // it at once.
  void look(Task& task) {
    while (!task.selection.is_done()) {
      task.mask = allow_mask_of(filter_, task.number, snapshot_.n_rows);
      task.selection.narrow(&task.mask);
      if (task.takes_best()) return;
      task.choice->narrow(&task.mask);
      if (!task.choice->wants_all(task.mask)) return;
      const RaggedRows& lists = filter_.exclude;
      for (std::int64_t i = lists.splits == nullptr ? 0 : lists.splits[task.number];
           lists.splits != nullptr && i < lists.splits[task.number + 1]; ++i) {
        if (lists.values[i] >= 0) task.mask[static_cast<std::size_t>(lists.values[i])] = 0;
      }
      task.choice->know_all(task.mask);
      task.choice->choose(&task.selection);
    }
  }

  void search_left(const std::vector<Task*>& tasks) {
    const std::size_t n = tasks.size();
    std::vector<float> vectors;
    std::vector<std::int64_t> excluded, splits = {0}, numbers;
    std::vector<const unsigned char*> masks;
    std::size_t k = 1;
    for (Task* task : tasks) {
      const float* const query = queries_.row(task->number);
      if (task->takes_best()) {
        vectors.insert(vectors.end(), query, query + queries_.dim);
        k = std::max(k, with_spare(task->selection.n_left()));
      } else {
        const float* const wanted = task->choice->search_for();
        vectors.insert(vectors.end(), wanted, wanted + queries_.dim);
        k = std::max(k, task->choice->n_wanted());
      }
      if (filter_.exclude.splits != nullptr) {
        const std::int64_t* const lists = filter_.exclude.splits + task->number;
        excluded.insert(excluded.end(), filter_.exclude.values + lists[0],
                        filter_.exclude.values + lists[1]);
      }
      splits.push_back(static_cast<std::int64_t>(excluded.size()));
      numbers.push_back(static_cast<std::int64_t>(masks.size()));
      masks.push_back(task->mask.data());
    }
    Filter filter;
    if (filter_.exclude.splits != nullptr) filter.exclude = {excluded.data(), splits.data()};
    filter.allow_masks = masks.data();
    filter.n_allow_masks = n;
    filter.mask_of = numbers.data();
    Found found(n, std::min(k, std::max<std::size_t>(1, snapshot_.n_rows)));
    search_snapshot(snapshot_, {vectors.data(), n, queries_.dim}, found.k, filter, n_threads_,
                    found.output(), between_);
    for_each(n, [&](std::size_t i) {
      Task& task = *tasks[i];
      if (task.takes_best()) return offer(task, found.list(i), found.is_all(i));
      task.choice->know(found.list(i), found.is_all(i));
      task.choice->choose(&task.selection);
    });
  }

  // A list by scores: all that may be taken from it, or what the choice takes.
  void offer(Task& task, std::vector<Neighbor> list, bool is_all) {
    if (task.choice == nullptr) return task.selection.offer(std::move(list), is_all, top_n_);
    task.choice->take_best(&task.selection, std::move(list), is_all);
  }

  void write(Task& task) const {
    std::vector<Neighbor> picks = task.selection.picks();
    if (task.choice == nullptr) {
      std::sort(picks.begin(), picks.end(), is_better);
    } else {
      task.choice->arrange(&picks, task.selection.has_quotas());
    }
    output_.counts[task.number] = static_cast<std::int64_t>(picks.size());
    picks.resize(top_n_, {-std::numeric_limits<float>::infinity(), -1});
    for (std::size_t i = 0; i < top_n_; ++i) {
      output_.scores[task.number * top_n_ + i] = picks[i].score;
      output_.rows[task.number * top_n_ + i] = picks[i].row;
    }
    if (output_.missing == nullptr) return;
    task.selection.write_missing(output_.missing + task.number * variety_.n_quotas);
  }

  template <class Work>
  void for_each(std::size_t n, const Work& work) const {
    std::atomic<std::size_t> next{0};
    parallel_for(std::min(n_threads_, n), [&](std::size_t) {
      for (std::size_t i = next++; i < n; i = next++) work(i);
    });
  }

  const Snapshot& snapshot_;
  const MatrixView& queries_;
  const std::size_t top_n_;
  const Filter& filter_;
  const Variety& variety_;
  const std::size_t n_threads_;
  const SearchOutput& output_;
  const std::function<void()>* between_;
  const double item_norm_ = variety_.diversity == nullptr ? 0 : largest_norm(snapshot_);
  const std::size_t most_values_ = variety_.calibration.strength == nullptr
                                       ? 0
                                       : most_values(variety_.calibration.column, snapshot_.n_rows);
};

}  // namespace

std::vector<unsigned char> allow_mask_of(const Filter& filter, std::size_t query,
                                         std::size_t n_rows) {
  const unsigned char* given = filter.allow_mask;
  if (filter.mask_of != nullptr) given = filter.allow_masks[filter.mask_of[query]];
  if (given != nullptr) return {given, given + n_rows};
  const std::int64_t *begin = filter.allow_rows, *end = begin;
  if (begin != nullptr) end += filter.n_allow_rows;
  if (filter.allow.splits != nullptr) {
    begin = filter.allow.values + filter.allow.splits[query];
    end = filter.allow.values + filter.allow.splits[query + 1];
  } else if (begin == nullptr) {
    return std::vector<unsigned char>(n_rows, 1);
  }
  std::vector<unsigned char> mask(n_rows);
  for (; begin != end; ++begin) {
    if (*begin >= 0) mask[static_cast<std::size_t>(*begin)] = 1;
  }
  return mask;
}

void search_varied(const Snapshot& snapshot, const MatrixView& queries, std::size_t top_n,
                   const Filter& filter, const Variety& variety, std::size_t n_threads,
                   const SearchOutput& output, const std::function<void()>* between) {
  n_threads = n_threads == 0 ? num_threads() : std::min(n_threads, kMaxThreads);
  VariedSearch(snapshot, queries, top_n, filter, variety, n_threads, output, between).run();
}

}  // namespace shortlist
