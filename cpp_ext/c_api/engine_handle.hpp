// The handle of an engine, and what its functions share.
#pragma once

#include <memory>

#include "c_api/arguments.hpp"
#include "c_api/checked_filter.hpp"
#include "c_api/checked_variety.hpp"
#include "engine/loaded_bundle.hpp"
#include "shortlist/shortlist.h"
#include "src/system/forks.hpp"

namespace shortlist::c_api {

// The bundle that answers now. Sessions hold it beside the engine.
class Running {
 public:
  // Null once the engine is closed.
  std::shared_ptr<engine::LoadedBundle> current() const {
    const Uncut uncut;
    const auto lock = reading_.lock();
    return bundle_;
  }
  // Puts another bundle in its place, or none, and gives it back.
  std::shared_ptr<engine::LoadedBundle> replace(std::shared_ptr<engine::LoadedBundle> bundle) {
    const Uncut uncut;
    const auto lock = reading_.lock();
    bundle_.swap(bundle);
    return bundle;
  }

 private:
  ForkMutex reading_;  // for a moment
  std::shared_ptr<engine::LoadedBundle> bundle_;
};

}  // namespace shortlist::c_api

struct shortlist_engine {
  shortlist::engine::Runtime runtime;
  shortlist::engine::BundleSettings settings;
  bool check_hashes = true;
  shortlist::ForkMutex swapping;  // one swap at a time
  shortlist::ForkMutex writing;   // one change of items at a time
  std::shared_ptr<shortlist::c_api::Running> running =
      std::make_shared<shortlist::c_api::Running>();

  std::shared_ptr<shortlist::engine::LoadedBundle> current() const { return running->current(); }
};

namespace shortlist::c_api {

constexpr const char* kEngineHandle = "an engine of shortlist_engine_open";

// Requests, checked, and what they borrow. Throws std::invalid_argument as arguments.hpp says.
class CheckedRequests {
 public:
  CheckedRequests(const engine::LoadedBundle& bundle, const IndexView& view,
                  const shortlist_requests& requests);
  CheckedRequests(const CheckedRequests&) = delete;
  CheckedRequests& operator=(const CheckedRequests&) = delete;

  const engine::Call& call() const { return call_; }

 private:
  void set_variety(const IndexView& view, const shortlist_requests& requests,
                   const shortlist_variety* given);
  void set_skipped(const IndexView& view, const shortlist_requests& requests);

  std::unique_ptr<CheckedFilter> filter_;
  std::unique_ptr<CheckedVariety> variety_;
  Rows skipped_;
  engine::Call call_;
};

// The fields that a host's header knows; the others are zero.
shortlist_requests known_requests(const shortlist_requests* requests);

}  // namespace shortlist::c_api
