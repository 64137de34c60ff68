// Whether bytes are UTF-8 (internal).
#pragma once

#include <string_view>

namespace shortlist {

// Structure only (lead bytes and continuations, no surrogates): enough to be decodable.
bool is_utf8(std::string_view text);

}  // namespace shortlist
