// Work that must not slow down requests (internal).
#pragma once

#include <functional>

namespace shortlist::engine {

// Runs `work` on a thread of its own, which gives way to all others, and waits for it. What it
// throws comes out here.
void run_in_background(const std::function<void()>& work);

}  // namespace shortlist::engine
