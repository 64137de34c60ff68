// shortlist_engine_*: whole bundles, with ONNX Runtime.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "c_api/engine_handle.hpp"
#include "c_api/guard.hpp"
#include "shortlist/background.hpp"
#include "shortlist/thread_pool.hpp"

using shortlist::engine::BundleSettings;
using shortlist::engine::LoadedBundle;
using shortlist::engine::Runtime;

namespace shortlist::c_api {
namespace {

constexpr std::size_t kMostThreads = 256, kLongestWait = 1'000'000;
// What structs were before ABI version 4.
constexpr std::size_t kFirstOptions = offsetof(shortlist_engine_options, device);
constexpr std::size_t kFirstInfo = offsetof(shortlist_engine_info, n_batched_requests);

BundleSettings settings_of(const shortlist_engine_options& options) {
  if (options.n_threads > kMostThreads) {
    throw std::invalid_argument("options.n_threads: got " + std::to_string(options.n_threads) +
                                "; expected at most " + std::to_string(kMostThreads) +
                                ", 0 = shortlist_get_num_threads");
  }
  if (options.max_wait_us > kLongestWait) {
    throw std::invalid_argument("options.max_wait_us: got " + std::to_string(options.max_wait_us) +
                                "; expected at most " + std::to_string(kLongestWait) +
                                " microseconds, 0 = 200");
  }
  BundleSettings settings;
  if (options.device != nullptr) settings.session.device = options.device;
  engine::check_device(settings.session.device);
  settings.session.n_threads = options.n_threads;
  if (options.max_batch > 1) settings.batching.max_batch = options.max_batch;
  if (options.max_wait_us > 0) {
    settings.batching.max_wait_us = static_cast<std::int64_t>(options.max_wait_us);
  }
  return settings;
}

std::unique_ptr<shortlist_engine> open_engine(const char* bundle,
                                              const shortlist_engine_options& options) {
  auto engine = std::make_unique<shortlist_engine>();
  engine->settings = settings_of(options);
  engine->check_hashes = options.skip_hashes == 0;
  engine->runtime = engine::find_runtime(options.onnxruntime);
  auto loaded = std::make_shared<LoadedBundle>(
      engine->runtime, engine::open_bundle(bundle, engine->check_hashes), engine->settings, 1);
  loaded->warm();
  engine->running->replace(std::move(loaded));
  return engine;
}

std::shared_ptr<LoadedBundle> open_next(const shortlist_engine& engine, engine::BundleFolder bundle,
                                        const LoadedBundle& old) {
  auto next = std::make_shared<LoadedBundle>(engine.runtime, std::move(bundle), engine.settings,
                                             old.number() + 1);
  const bool has_texts = next->graph().has_texts();
  if (has_texts != old.graph().has_texts()) {
    throw FileError(
        next->bundle().name + ": its item ids are " + (has_texts ? "texts" : "numbers") +
        ", those of the running bundle " + (has_texts ? "numbers" : "texts") +
        ": requests that fit one do not fit the other; open it as an engine of its own");
  }
  next->warm();
  return next;
}

std::size_t threads_of(const shortlist_engine& engine) {
  const std::size_t n_threads = engine.settings.session.n_threads;
  return n_threads == 0 ? shortlist::num_threads() : n_threads;
}

// Waits a while for the calls under way, so that memory is given back here and not in a request.
void let_go(std::shared_ptr<LoadedBundle> old) {
  for (int i = 0; i < 1000 && old.use_count() > 1; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  old.reset();
  give_back_memory();
}

void swap(shortlist_engine& engine, const char* bundle) {
  const auto lock = engine.swapping.lock();
  engine::BundleFolder folder;
  run_in_background([&] { folder = engine::open_bundle(bundle, engine.check_hashes); });
  const auto work = [&] {
    std::shared_ptr<LoadedBundle> next = open_next(engine, std::move(folder), *engine.current());
    let_go(engine.running->replace(std::move(next)));
  };
  if (engine::may_give_way(engine.runtime, engine.settings.session)) {
    run_in_background(work);
  } else {
    work();
  }
}

void put_text(const std::string& text, char* to, std::size_t room) {
  const std::size_t n = std::min(text.size(), room - 1);
  std::memcpy(to, text.data(), n);
  to[n] = '\0';
}

int32_t metric_of(const std::string& name) {
  return name == "cosine" ? SHORTLIST_COSINE : name == "dot" ? SHORTLIST_DOT : SHORTLIST_EUCLIDEAN;
}

shortlist_engine_info info_of(const shortlist_engine& engine) {
  const std::shared_ptr<LoadedBundle> bundle = engine.current();
  const auto& manifest = bundle->bundle().manifest;
  shortlist_engine_info info{};
  info.version = bundle->number();
  info.n_items = manifest.n_items;
  info.dim = manifest.dim;
  info.n_threads = threads_of(engine);
  info.metric = metric_of(manifest.metric);
  info.has_texts = bundle->graph().has_texts() ? 1 : 0;
  put_text(bundle->runtime_version(), info.onnxruntime, sizeof info.onnxruntime);
  put_text(bundle->graph().session().provider(), info.provider, sizeof info.provider);
  put_text(bundle->bundle().path, info.bundle, sizeof info.bundle);
  if (bundle->batcher() != nullptr) {
    const engine::BatchCounts counts = bundle->batcher()->counts();
    info.n_batched_requests = counts.n_requests;
    info.n_batches = counts.n_batches;
  }
  return info;
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
    if (given != nullptr) options = known_fields(given, "options", kFirstOptions);
    *engine = open_engine(bundle, options).release();
  });
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
    check_struct(info, struct_size, sizeof *info, "info", kFirstInfo);
    shortlist_engine_info whole = info_of(*engine);
    whole.struct_size = struct_size;
    std::memcpy(info, &whole, std::min(struct_size, sizeof whole));
  });
}

void shortlist_engine_close(shortlist_engine* engine) {
  if (engine != nullptr) engine->running->replace(nullptr);
  delete engine;
}
