// Which providers a device means, what is said where they do not run, and how nodes are counted.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/errors.hpp"
#include "engine/providers.hpp"
#include "engine/session.hpp"
#include "fake_runtime.hpp"
#include "shortlist/file_error.hpp"

using namespace shortlist;
using namespace shortlist::engine;

namespace {

int n_errors = 0;

void expect(bool is_true, const std::string& promise) {
  if (is_true) return;
  ++n_errors;
  std::fprintf(stderr, "broken: %s\n", promise.c_str());
}

// What a call throws, if it is such an error.
template <class Error, class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing of the kind";
}

using Names = std::vector<std::string>;

Names appended(FakeRuntime& runtime, const char* device) {
  OrtSessionOptions options;
  const Providers providers(runtime.api(), device, "g.onnx");
  providers.add_to(&options);
  expect(providers.has_device() == !options.providers.empty(), "has_device");
  return options.providers;
}

void the_providers_of_each_device() {
  FakeRuntime runtime;
  expect(appended(runtime, "auto").empty() && appended(runtime, "cpu").empty(), "the CPU alone");
  runtime.available = {kTensorRt, kCuda, kCpu};
  expect(appended(runtime, "auto") == Names{kCuda}, "auto is CUDA where there is CUDA");
  expect(appended(runtime, "cpu").empty(), "the CPU that was asked for");
  expect(appended(runtime, "cuda") == Names{kCuda}, "cuda");
  expect(appended(runtime, "tensorrt") == (Names{kTensorRt, kCuda}),
         "CUDA takes what TensorRT does not");
  runtime.available = {kTensorRt, kCpu};
  expect(appended(runtime, "tensorrt") == Names{kTensorRt}, "TensorRT alone");
  expect(runtime.n_alive == 0, "all is released");
}

void a_device_that_is_not_there_is_an_error() {
  FakeRuntime runtime;
  for (const std::string device : {"cuda", "tensorrt"}) {
    expect(error_of<DeviceMissing>([&] { Providers(runtime.api(), device, "g.onnx"); }) ==
               "device: got '" + device +
                   "', but this onnxruntime offers only CPUExecutionProvider; pip uninstall "
                   "onnxruntime and install 'shortlist[gpu]', or use device='cpu'",
           device + " is not there");
  }
  expect(error_of<std::invalid_argument>([&] { Providers(runtime.api(), "gpu", "g.onnx"); }) ==
             "device: got 'gpu', expected one of auto, cpu, cuda, tensorrt",
         "no such device");
}

void a_provider_that_runs_no_node_is_not_the_one_that_runs() {
  FakeRuntime runtime;
  runtime.available = {kTensorRt, kCuda, kCpu};
  const Providers automatic(runtime.api(), "auto", "g.onnx"), cuda(runtime.api(), "cuda", "g.onnx");
  const Providers trt(runtime.api(), "tensorrt", "g.onnx");
  expect(automatic.check_runs({{kCpu, 2}}) == kCpu, "auto may run on the CPU");
  expect(cuda.check_runs({{kCpu, 1}, {kCuda, 2}}) == kCuda, "the one with most nodes runs");
  expect(cuda.check_runs({{kCpu, 3}, {kCuda, 2}}) == kCpu, "whichever that is");
  expect(trt.check_runs({{kCuda, 2}}) == kCuda, "TensorRT leaves it to CUDA");
  expect(cuda.check_runs({}) == kCuda, "an old ONNX Runtime cannot tell");
  const std::string error = error_of<DeviceMissing>([&] { cuda.check_runs({{kCpu, 2}}); });
  expect(error ==
             "device: got 'cuda', but g.onnx runs on CPUExecutionProvider: the libraries of "
             "CUDAExecutionProvider or a GPU are missing, or it has no kernels for this graph; "
             "install 'shortlist[gpu]' on a machine with an NVIDIA driver, or use 'cpu'",
         error);
}

std::string open(FakeRuntime& runtime, const char* device) {
  SessionSettings settings;
  settings.device = device;
  const Session session(runtime.get(), "g.onnx", "tiny/g.onnx", settings, nullptr);
  return session.provider();
}

void auto_goes_to_the_cpu_where_cuda_does_not_start() {
  FakeRuntime runtime;
  runtime.available = {kCuda, kCpu};
  runtime.nodes = {{kCpu, 3}};
  runtime.open_error = "no driver";
  expect(open(runtime, "auto") == kCpu, "auto goes to the CPU");
  expect(runtime.opened == (std::vector<Names>{{kCuda}, {}}), "after it has tried CUDA");
  const std::string error = error_of<FileError>([&] { open(runtime, "cuda"); });
  expect(
      error == "tiny/g.onnx: expected a graph ONNX Runtime can open, found tiny/g.onnx: no driver",
      error);
  runtime.open_error.clear();
  runtime.append_error = "libcudart.so.12: cannot open";
  expect(open(runtime, "auto") == kCpu, "auto goes to the CPU without the libraries, too");
  const std::string missing = error_of<DeviceMissing>([&] { open(runtime, "cuda"); });
  expect(missing.find("got 'cuda', but tiny/g.onnx runs on CPUExecutionProvider: the libraries of "
                      "CUDAExecutionProvider") != std::string::npos &&
             missing.find("libcudart.so.12: cannot open") != std::string::npos,
         missing);
  expect(runtime.n_alive == 0, "all is released");
}

void a_session_says_what_runs() {
  FakeRuntime runtime;
  runtime.available = {kCuda, kCpu};
  runtime.nodes = {{kCpu, 1}, {kCuda, 5}};
  expect(open(runtime, "auto") == kCuda && open(runtime, "cuda") == kCuda, "CUDA runs");
  runtime.nodes = {{kCpu, 4}};
  expect(open(runtime, "auto") == kCpu, "CUDA has no kernels for it");
  const std::string error = error_of<DeviceMissing>([&] { open(runtime, "cuda"); });
  expect(error.find("got 'cuda', but tiny/g.onnx runs on CPUExec") != std::string::npos, error);
  expect(runtime.n_alive == 0, "all is released");
}

void nodes_are_counted_where_onnx_runtime_can_tell() {
  FakeRuntime runtime;
  runtime.nodes = {{kCpu, 4}, {kCuda, 2}};
  const OrtSession session;
  expect(count_nodes(runtime.get(), &session) == NodeCounts{{kCpu, 4}, {kCuda, 2}}, "it tells");
  runtime.count_error = "not recorded";
  expect(count_nodes(runtime.get(), &session).empty() && runtime.n_alive == 0, "it does not");
  runtime.can_count = false;
  expect(count_nodes(runtime.get(), &session).empty(), "an old one cannot");
}

}  // namespace

int main() {
  the_providers_of_each_device();
  a_device_that_is_not_there_is_an_error();
  a_provider_that_runs_no_node_is_not_the_one_that_runs();
  auto_goes_to_the_cpu_where_cuda_does_not_start();
  a_session_says_what_runs();
  nodes_are_counted_where_onnx_runtime_can_tell();
  if (n_errors == 0) std::puts("devices keep their promises");
  return n_errors == 0 ? 0 : 1;
}
