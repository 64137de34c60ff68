// Ids of Python as the core takes them.
#pragma once

#include <string>
#include <vector>

#include "bindings/arrays.hpp"
#include "shortlist/item_ids.hpp"

namespace shortlist::bindings {

ItemIds ids_from(const RowArray& ids);
ItemIds ids_from(const std::vector<std::string>& strings);

}  // namespace shortlist::bindings
