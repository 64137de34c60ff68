// How many CPUs this process may keep busy (internal).
#pragma once

#include <cstddef>
#include <string>

namespace shortlist {

// The smaller of the affinity mask and the cgroup quota (versions 1 and 2, rounded up), at least 1.
std::size_t usable_cpus();

// The quota alone, of this process's groups and all above them; 0 = none. `root` is put before
// /proc and /sys (tests).
std::size_t cgroup_cpus(const std::string& root);

}  // namespace shortlist
