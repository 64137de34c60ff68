// shortlist_engine_*: whole bundles, with ONNX Runtime.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "arguments.hpp"
#include "filter.hpp"
#include "guard.hpp"
#include "names.hpp"
#include "shortlist/background.hpp"
#include "shortlist/thread_pool.hpp"
#include "version.hpp"

using shortlist::engine::Answer;
using shortlist::engine::Runtime;
using shortlist::engine::Version;

struct shortlist_engine {
  Runtime runtime;
  std::size_t n_threads = 1;
  bool check_hashes = true;
  std::mutex swapping;         // one swap at a time
  mutable std::mutex reading;  // of `version`, for a moment
  std::shared_ptr<const Version> version;

  std::shared_ptr<const Version> current() const {
    const std::lock_guard<std::mutex> lock(reading);
    return version;
  }
};

namespace shortlist::c_api {
namespace {

constexpr const char* kEngineHandle = "an engine of shortlist_engine_open";
constexpr std::size_t kMostThreads = 256;
// Places of an answer that may be empty by far: beyond this, a mistake would fill the memory.
constexpr std::size_t kMaxEmptyPlaces = std::size_t{1} << 24;

std::unique_ptr<shortlist_engine> open_engine(const char* bundle,
                                              const shortlist_engine_options& options) {
  if (options.n_threads > kMostThreads) {
    throw std::invalid_argument("options.n_threads: got " + std::to_string(options.n_threads) +
                                "; expected at most " + std::to_string(kMostThreads) +
                                ", 0 = shortlist_get_num_threads");
  }
  auto engine = std::make_unique<shortlist_engine>();
  engine->runtime = engine::find_runtime(options.onnxruntime);
  engine->n_threads = options.n_threads;
  engine->check_hashes = options.skip_hashes == 0;
  const auto version = std::make_shared<const Version>(engine->runtime, bundle, engine->n_threads,
                                                       engine->check_hashes, 1);
  version->warm();
  engine->version = version;
  return engine;
}

std::shared_ptr<const Version> open_next(const shortlist_engine& engine, const char* bundle,
                                         const Version& old) {
  auto version = std::make_shared<const Version>(engine.runtime, bundle, engine.n_threads,
                                                 engine.check_hashes, old.number() + 1);
  if (version->has_texts() != old.has_texts()) {
    const auto kind = [](const Version& of) { return of.has_texts() ? "texts" : "numbers"; };
    throw FileError(
        version->bundle().name + ": its item ids are " + kind(*version) +
        ", those of the running bundle " + kind(old) +
        ": requests that fit one do not fit the other; open it as an engine of its own");
  }
  version->warm();
  return version;
}

std::size_t threads_of(const shortlist_engine& engine) {
  return engine.n_threads == 0 ? shortlist::num_threads() : engine.n_threads;
}

// Waits a while for the calls under way, so that memory is given back here and not in a request.
void let_go(std::shared_ptr<const Version> old) {
  for (int i = 0; i < 1000 && old.use_count() > 1; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  old.reset();
  give_back_memory();
}

void swap(shortlist_engine& engine, const char* bundle) {
  const std::lock_guard<std::mutex> lock(engine.swapping);
  const auto work = [&] {
    std::shared_ptr<const Version> next = open_next(engine, bundle, *engine.current());
    {
      const std::lock_guard<std::mutex> moment(engine.reading);
      engine.version.swap(next);
    }
    let_go(std::move(next));
  };
  // A session's workers inherit how the thread that makes it runs, and would give way for good.
  if (threads_of(engine) == 1) {
    run_in_background(work);
  } else {
    work();
  }
}

Answer* recommend(const shortlist_engine& engine, const shortlist_requests& requests) {
  const std::shared_ptr<const Version> version = engine.current();
  const std::size_t n_items = version->bundle().manifest.n_items;
  check_places(requests.n_requests, requests.top_n, n_items);
  if (requests.top_n > n_items && requests.n_requests > kMaxEmptyPlaces / requests.top_n) {
    throw std::invalid_argument("top_n: got " + std::to_string(requests.top_n) + " for " +
                                std::to_string(requests.n_requests) +
                                " requests; an answer of that size would fill the memory, and the "
                                "bundle has " +
                                std::to_string(n_items) + " items: ask for at most as many");
  }
  if (requests.n_columns > 0) check_pointer(requests.columns, "columns", "n_columns columns");
  shortlist_filter filter{};
  if (requests.filter != nullptr) filter = known_fields(requests.filter, "filter");
  for (const shortlist_ids* ids : {filter.exclude, filter.allow}) {
    if (ids != nullptr && ids->rows != nullptr) check_rows(version->index(), ids->rows, ids->n);
  }
  const CheckedFilter checked(version->index(), requests.n_requests, filter);
  auto answer = std::make_unique<Answer>();
  version->recommend(requests, checked.filter(), answer.get());
  return answer.release();
}

void put_text(const std::string& text, char* to, std::size_t room) {
  const std::size_t n = std::min(text.size(), room - 1);
  std::memcpy(to, text.data(), n);
  to[n] = '\0';
}

int32_t metric_of(const std::string& name) {
  return name == "cosine" ? SHORTLIST_COSINE : name == "dot" ? SHORTLIST_DOT : SHORTLIST_EUCLIDEAN;
}

}  // namespace
}  // namespace shortlist::c_api

using namespace shortlist::c_api;

shortlist_status shortlist_engine_open(const char* bundle, const shortlist_engine_options* given,
                                       shortlist_engine** engine, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(engine, "engine", "the address of a shortlist_engine pointer");
    *engine = nullptr;
    check_pointer(bundle, "bundle", "the path of a bundle folder");
    shortlist_engine_options options{};
    options.n_threads = 1;
    if (given != nullptr) options = known_fields(given, "options");
    *engine = open_engine(bundle, options).release();
  });
}

shortlist_status shortlist_engine_recommend(const shortlist_engine* engine,
                                            const shortlist_requests* requests,
                                            shortlist_answer** answer, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(answer, "answer", "the address of a shortlist_answer pointer");
    *answer = nullptr;
    check_pointer(engine, "engine", kEngineHandle);
    check_pointer(requests, "requests", "the address of a shortlist_requests");
    constexpr std::size_t kFirst = offsetof(shortlist_requests, filter);  // of ABI version 2
    *answer = recommend(*engine, known_fields(requests, "requests", kFirst));
  });
}

void shortlist_answer_free(shortlist_answer* answer) {
  delete static_cast<Answer*>(answer);
}

shortlist_status shortlist_engine_swap(shortlist_engine* engine, const char* bundle,
                                       shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(engine, "engine", kEngineHandle);
    check_pointer(bundle, "bundle", "the path of a bundle folder");
    swap(*engine, bundle);
  });
}

shortlist_status shortlist_engine_report(const shortlist_engine* engine,
                                         shortlist_engine_info* info, shortlist_error* error) {
  return guarded(error, [&] {
    check_pointer(engine, "engine", kEngineHandle);
    check_pointer(info, "info", "the address of a shortlist_engine_info");
    const std::size_t struct_size = info->struct_size;
    check_struct(info, struct_size, sizeof *info, "info");
    const std::shared_ptr<const Version> version = engine->current();
    const auto& manifest = version->bundle().manifest;
    *info = {};
    info->struct_size = struct_size;
    info->version = version->number();
    info->n_items = manifest.n_items;
    info->dim = manifest.dim;
    info->n_threads = threads_of(*engine);
    info->metric = metric_of(manifest.metric);
    info->has_texts = version->has_texts() ? 1 : 0;
    put_text(engine->runtime.base->GetVersionString(), info->onnxruntime, sizeof info->onnxruntime);
    put_text("CPUExecutionProvider", info->provider, sizeof info->provider);
    put_text(version->bundle().path, info->bundle, sizeof info->bundle);
  });
}

void shortlist_engine_close(shortlist_engine* engine) {
  delete engine;
}
