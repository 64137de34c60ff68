#include "engine/graph_check.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "engine/mapped_file.hpp"
#include "engine/protobuf.hpp"
#include "shortlist/file_error.hpp"
#include "src/system/utf8.hpp"

namespace shortlist::engine {
namespace {

// Numbers of fields in onnx.proto.
namespace model {
constexpr std::uint32_t kGraph = 7, kTraining = 20, kFunctions = 25;
}
namespace graph {
constexpr std::uint32_t kNode = 1, kInitializer = 5, kSparseInitializer = 15;
}
namespace node {
constexpr std::uint32_t kName = 3, kOperator = 4, kAttribute = 5, kDomain = 7;
}
namespace attribute {
constexpr std::uint32_t kTensor = 5, kGraph = 6, kTensors = 10, kGraphs = 11, kSparseTensor = 22,
                        kSparseTensors = 23;
}
namespace tensor {
constexpr std::uint32_t kName = 8, kExternalData = 13;
}
namespace sparse_tensor {
constexpr std::uint32_t kValues = 1, kIndices = 2;
}
namespace entry {
constexpr std::uint32_t kKey = 1, kValue = 2;
}

constexpr std::size_t kMostNested = 16;  // graphs; those of export are two deep
constexpr std::size_t kMostShown = 80;
constexpr std::string_view kDomains[] = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft",
                                         "ai.shortlist"};
// Runs what a file beside the graph holds, on devices that know it.
constexpr std::string_view kOpensFiles = "EPContext";
constexpr const char* kFix = "; a bundle that shortlist has exported has none: ask who wrote it";

// A name of the graph, as a message may hold it.
std::string shown(std::string_view text) {
  std::string out(text.substr(0, kMostShown));
  const bool is_text = is_utf8(out);
  for (char& byte : out) {
    const auto code = static_cast<unsigned char>(byte);
    if (code < 0x20 || code == 0x7F || (code >= 0x80 && !is_text)) byte = '?';
  }
  return "'" + out + "'";
}

struct Node {
  std::string_view name, kind, domain;
};

std::string shown(const Node& node) {
  const std::string domain = node.domain.empty() ? "" : " of " + shown(node.domain);
  return "operator " + shown(node.kind) + domain + " (node " + shown(node.name) + ")";
}

class Checker {
 public:
  Checker(const std::string& name, const std::map<std::string, FileRecord>& files)
      : name_(name), files_(files) {}

  void check_model(std::string_view bytes) const {
    for (MessageParts part(name_, bytes); part.next();) {
      if (part.field() == model::kGraph) check_graph(part.content(), 1);
      if (part.field() == model::kFunctions) throw_bad("no functions of its own", "some");
      if (part.field() == model::kTraining) throw_bad("a graph to be run", "one to be trained");
    }
  }

 private:
  void check_graph(std::string_view bytes, std::size_t depth) const {
    if (depth > kMostNested) {
      throw_bad("at most " + std::to_string(kMostNested) + " graphs inside of one another", "more");
    }
    for (MessageParts part(name_, bytes); part.next();) {
      if (part.field() == graph::kNode) check_node(part.content(), depth);
      if (part.field() == graph::kInitializer) check_tensor(part.content());
      if (part.field() == graph::kSparseInitializer) check_sparse_tensor(part.content());
    }
  }

  void check_node(std::string_view bytes, std::size_t depth) const {
    Node node;  // of fields that come again the last one counts
    for (MessageParts part(name_, bytes); part.next();) {
      if (part.field() == node::kName) node.name = part.content();
      if (part.field() == node::kOperator) node.kind = part.content();
      if (part.field() == node::kDomain) node.domain = part.content();
    }
    const bool is_known =
        std::find(std::begin(kDomains), std::end(kDomains), node.domain) != std::end(kDomains);
    if (!is_known || node.kind == kOpensFiles) {
      throw_bad("operators of ONNX, ai.onnx.ml, com.microsoft and ai.shortlist that open no files",
                shown(node) + kFix);
    }
    for (MessageParts part(name_, bytes); part.next();) {
      if (part.field() == node::kAttribute) check_attribute(part.content(), node, depth);
    }
  }

  void check_attribute(std::string_view bytes, const Node& node, std::size_t depth) const {
    const bool is_branch = node.kind == "If" && (node.domain.empty() || node.domain == "ai.onnx");
    for (MessageParts part(name_, bytes); part.next();) {
      switch (part.field()) {
        case attribute::kTensor:
        case attribute::kTensors:
          check_tensor(part.content());
          break;
        case attribute::kSparseTensor:
        case attribute::kSparseTensors:
          check_sparse_tensor(part.content());
          break;
        case attribute::kGraph:
        case attribute::kGraphs:
          if (!is_branch) {
            throw_bad("no loops, and graphs inside of If alone",
                      "a graph inside of " + shown(node) + kFix);
          }
          check_graph(part.content(), depth + 1);
          break;
        default:
          break;
      }
    }
  }

  void check_sparse_tensor(std::string_view bytes) const {
    for (MessageParts part(name_, bytes); part.next();) {
      if (part.field() == sparse_tensor::kValues || part.field() == sparse_tensor::kIndices) {
        check_tensor(part.content());
      }
    }
  }

  void check_tensor(std::string_view bytes) const {
    for (MessageParts part(name_, bytes); part.next();) {
      if (part.field() != tensor::kExternalData) continue;
      std::string_view key, value;
      for (MessageParts one(name_, part.content()); one.next();) {
        if (one.field() == entry::kKey) key = one.content();
        if (one.field() == entry::kValue) value = one.content();
      }
      if (key != "location" || files_.count(std::string(value)) > 0) continue;
      const std::string name = shown(name_of_tensor(bytes));
      throw_bad("tensor " + name + " to lie in a file that the manifest lists",
                "the location " + shown(value) + kFix);
    }
  }

  std::string_view name_of_tensor(std::string_view bytes) const {
    std::string_view found;
    for (MessageParts part(name_, bytes); part.next();) {
      if (part.field() == tensor::kName) found = part.content();
    }
    return found;
  }

  [[noreturn]] void throw_bad(const std::string& expected, const std::string& found) const {
    throw FileError(name_ + ": expected " + expected + ", found " + found);
  }

  const std::string& name_;
  const std::map<std::string, FileRecord>& files_;
};

bool is_graph(std::string_view file) {
  constexpr std::string_view kEnd = ".onnx";
  return file.size() > kEnd.size() && file.substr(file.size() - kEnd.size()) == kEnd;
}

}  // namespace

void check_graph(std::string_view graph, const std::string& name,
                 const std::map<std::string, FileRecord>& files) {
  Checker(name, files).check_model(graph);
}

void check_graphs(const BundleFolder& bundle) {
  const auto& files = bundle.manifest.files;
  for (const auto& [file, record] : files) {
    if (!is_graph(file)) continue;
    const std::string name = bundle.name + "/" + file;
    const MappedFile bytes = map_file(bundle.file(file), name, "a graph ONNX Runtime can open");
    check_graph({reinterpret_cast<const char*>(bytes.data()), bytes.size}, name, files);
  }
}

}  // namespace shortlist::engine
