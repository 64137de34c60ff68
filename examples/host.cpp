// A C++ host: raw history in, item ids out, in one run of ONNX Runtime. With a release in $ORT:
//   g++ -std=c++17 -O2 -I$ORT/include examples/host.cpp -L$ORT/lib -lonnxruntime -o host
//   LD_LIBRARY_PATH=$ORT/lib ./host movies.shortlist libshortlist.so 10  50 172 181
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

using Texts = std::vector<const char*>;
// One row of values; what the request does not tell is missing: INT64_MIN, "" or NaN.
Ort::Value make_input(OrtAllocator* memory, const Ort::TypeInfo& info, std::size_t length,
                      Texts given) {
  const auto declared = info.GetTensorTypeAndShapeInfo();
  std::vector<std::int64_t> shape = declared.GetShape();
  std::replace(shape.begin() + 1, shape.end(), -1L, static_cast<std::int64_t>(length));
  shape[0] = 1;
  const auto type = declared.GetElementType();
  Ort::Value value = Ort::Value::CreateTensor(memory, shape.data(), shape.size(), type);
  const std::size_t size = value.GetTensorTypeAndShapeInfo().GetElementCount();
  if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) {
    given.resize(size, "");
    value.FillStringTensor(given.data(), size);
  } else if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    std::fill_n(value.GetTensorMutableData<float>(), size, std::numeric_limits<float>::quiet_NaN());
  } else {
    auto* numbers = value.GetTensorMutableData<std::int64_t>();
    std::fill_n(numbers, size, std::numeric_limits<std::int64_t>::min());
    for (const char* number : given) *numbers++ = std::stoll(number);
  }
  return value;
}

int main(int, char** arguments) {
  const Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "host");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1).RegisterCustomOpsLibrary(arguments[2]);
  Ort::Session session(env, (arguments[1] + std::string("/recommend.onnx")).c_str(), options);
  Ort::AllocatorWithDefaultOptions memory;
  Texts history, names, wanted = {"item_ids", "scores", "counts"};
  for (char** id = arguments + 4; *id != nullptr; ++id) history.push_back(*id);
  std::vector<Ort::Value> values;
  for (std::size_t i = 0; i < session.GetInputCount(); ++i) {
    names.push_back(session.GetInputNameAllocated(i, memory).release());  // kept until the end
    const std::string name = names.back();
    const Texts given = name == "history" ? history : Texts(name == "top_n" ? 1 : 0, arguments[3]);
    const std::size_t length = name.rfind("history", 0) == 0 ? history.size() : 1;
    values.push_back(make_input(memory, session.GetInputTypeInfo(i), length, given));
  }
  const auto found = session.Run({}, names.data(), values.data(), values.size(), wanted.data(), 3);
  const bool is_text =
      found[0].GetTensorTypeAndShapeInfo().GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING;
  for (std::int64_t i = 0; i < *found[2].GetTensorData<std::int64_t>(); ++i) {
    const std::string id = is_text ? found[0].GetStringTensorElement(std::size_t(i))
                                   : std::to_string(found[0].GetTensorData<std::int64_t>()[i]);
    std::printf("%s %a\n", id.c_str(), found[1].GetTensorData<float>()[i]);
  }
}
