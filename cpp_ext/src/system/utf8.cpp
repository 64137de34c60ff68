#include "src/system/utf8.hpp"

#include <cstddef>

namespace shortlist {

bool is_utf8(std::string_view text) {
  const unsigned char* bytes = reinterpret_cast<const unsigned char*>(text.data());
  const std::size_t size = text.size();
  for (std::size_t i = 0; i < size;) {
    const unsigned lead = bytes[i];
    const std::size_t n = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (n == 0 || lead > 0xF4 || n > size - i) return false;
    for (std::size_t k = 1; k < n; ++k) {
      if ((bytes[i + k] & 0xC0U) != 0x80U) return false;
    }
    const unsigned second = n > 1 ? bytes[i + 1] : 0;
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
        (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) {
      return false;
    }
    i += n;
  }
  return true;
}

}  // namespace shortlist
