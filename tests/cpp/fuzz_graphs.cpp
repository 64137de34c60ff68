// Fuzz target (libFuzzer's interface): bytes that claim to be an ONNX graph are refused with
// FileError, or pass. `make fuzz-bundles` runs it.
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "engine/graph_check.hpp"
#include "shortlist/file_error.hpp"

using namespace shortlist::engine;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::map<std::string, FileRecord> files = {{"graphs.data", {}}};
  try {
    check_graph({reinterpret_cast<const char*>(data), size}, "fuzz", files);
  } catch (const shortlist::FileError&) {
  }
  return 0;
}
