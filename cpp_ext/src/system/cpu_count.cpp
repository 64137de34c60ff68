#include "src/system/cpu_count.hpp"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>

namespace shortlist {
namespace {

std::size_t affinity_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
  }
  return std::max(1U, std::thread::hardware_concurrency());  // more CPUs than the mask has bits
}

std::size_t cpus_of(double quota, double period) {
  if (!(quota > 0) || !(period > 0)) return 0;  // -1 = no limit
  return static_cast<std::size_t>(std::clamp(std::ceil(quota / period), 1.0, 1e6));
}

// Version 2: "max 100000" or "150000 100000".
std::size_t quota_v2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  double quota = 0, period = 0;
  return file >> quota >> period ? cpus_of(quota, period) : 0;
}

std::size_t quota_v1(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us"),
      period_file(folder + "/cpu.cfs_period_us");
  double quota = 0, period = 0;
  return quota_file >> quota && period_file >> period ? cpus_of(quota, period) : 0;
}

// The least quota of a group and the groups above it. In a container the path may be the host's;
// then only the mount itself, the container's own group, is found.
template <class Quota>
std::size_t least_quota(const std::string& mount, std::string path, const Quota& quota_of) {
  std::size_t least = 0;
  for (;;) {
    const std::size_t quota = quota_of(mount + path);
    if (quota != 0) least = least == 0 ? quota : std::min(least, quota);
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return least;
    path.resize(slash);
  }
}

bool names_cpu(const std::string& controllers) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');) {
    if (name == "cpu") return true;
  }
  return false;
}

}  // namespace

std::size_t cgroup_cpus(const std::string& root) {
  const std::string mounts = root + "/sys/fs/cgroup";
  std::ifstream groups(root + "/proc/self/cgroup");
  std::size_t least = 0;
  for (std::string line; std::getline(groups, line);) {  // "4:cpu,cpuacct:/path" or "0::/path"
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    std::size_t quota = 0;
    if (controllers.empty()) {
      quota = least_quota(mounts, path, quota_v2);
    } else if (names_cpu(controllers)) {
      quota = least_quota(mounts + "/" + controllers, path, quota_v1);
      if (quota == 0) quota = least_quota(mounts + "/cpu", path, quota_v1);
    }
    if (quota != 0) least = least == 0 ? quota : std::min(least, quota);
  }
  return least;
}

std::size_t usable_cpus() {
  const std::size_t quota = cgroup_cpus("");
  return quota == 0 ? affinity_cpus() : std::min(affinity_cpus(), quota);
}

}  // namespace shortlist
