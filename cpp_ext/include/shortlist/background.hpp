// Work that must not slow down requests, and what it leaves behind.
#pragma once

#include <functional>

namespace [[gnu::visibility("default")]] shortlist {

// From now on the calling thread gives way to all others, for as long as it lives: only a thread
// that ends with its work may call this. Threads that it starts inherit that: let it start none
// that live on. Where the system has no such thing nothing changes.
void give_way() noexcept;

// Runs `work` on a thread of its own, which gives way, and waits for it. What it throws comes out
// here. Meanwhile `poll`, unless empty, is called some times a second on the calling thread; if it
// throws, that comes out in place of what the work throws, once the work has ended.
void run_in_background(const std::function<void()>& work, const std::function<void()>& poll = {});

// Gives memory that is free, but kept for later, back to the system. Takes about a millisecond;
// calls of other threads that need memory may wait for a part of it.
void give_back_memory() noexcept;

}  // namespace shortlist
