#include "bindings/ids.hpp"

#include <utility>

namespace shortlist::bindings {

ItemIds ids_from(const RowArray& ids) {
  return ItemIds::from_int64({ids.data(), ids.data() + ids.size()});
}

ItemIds ids_from(const std::vector<std::string>& strings) {
  std::string bytes;
  std::vector<std::int64_t> offsets = {0};
  offsets.reserve(strings.size() + 1);
  for (const std::string& text : strings) {
    bytes += text;
    offsets.push_back(static_cast<std::int64_t>(bytes.size()));
  }
  return ItemIds::from_strings(std::move(bytes), std::move(offsets));
}

}  // namespace shortlist::bindings
