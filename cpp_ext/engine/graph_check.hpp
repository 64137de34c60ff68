// What a graph of a bundle may be (internal): a program without loops that reads files of its
// bundle and nothing else. Checked before ONNX Runtime sees it: releases differ in what they open.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "engine/bundle.hpp"

namespace shortlist::engine {

// Throws FileError that names `name` and the tensor or node, unless
//   every tensor outside of the graph lies in one of `files`,
//   every operator is of ONNX, ai.onnx.ml, com.microsoft or ai.shortlist, and opens no files,
//   no operator holds a graph but If, a few deep, and there are no functions.
// Time is linear in the bytes of the graph.
void check_graph(std::string_view graph, const std::string& name,
                 const std::map<std::string, FileRecord>& files);

// The same of every *.onnx of a bundle. @pre the folder is open
void check_graphs(const BundleFolder& bundle);

}  // namespace shortlist::engine
