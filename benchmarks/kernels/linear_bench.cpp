// Speed of the op linear on the CPU by format and number of rows, beside a calibration probe.
//
//   linear_bench [--isa auto] [--threads 2] [--n 1536] [--k 576] [--mbytes 64] [--formats q4_1,q8_0] [--rows 1,4,32]
//                [--library PATH]
//
// One measurement runs the op on as many different weights as take `mbytes`, so that with 64 or more they come from
// memory and with 1 from the cache. Before each one the probe runs: a loop of vpmaddubsw + vpaddw in registers on as
// many threads, the arithmetic that four-bit weights need and nothing else. Clock and neighbours change by 1.5 within
// minutes; the ratio to the probe is what can be compared. Another build of the backend is measured with --library.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "options.h"
#include "probe.h"
#include "runtime/device.h"

namespace {

using bench::read_options;
using bench::split;

struct Bench {
  std::shared_ptr<pf::Device> device;
  int64_t N, K;
  double mbytes;

  void run(const std::string& format, const std::vector<std::string>& row_counts) const {
    const PfFormat id = pf::format_from_name(format);
    std::vector<uint8_t> source(pf::row_bytes(id, K) * static_cast<size_t>(N));
    std::mt19937 rng(1);
    for (auto& byte : source) byte = static_cast<uint8_t>(rng() & 0x3f);  // finite in every format
    const size_t copies = static_cast<size_t>(std::max(1.0, mbytes * 1e6 / static_cast<double>(source.size())));
    std::vector<std::unique_ptr<pf::Weight>> weights;
    for (size_t i = 0; i < copies; ++i) {
      const std::vector<PfWeightPart> parts = {{source.data(), source.size(), N, K, id}};
      weights.push_back(std::make_unique<pf::Weight>(device, parts));
    }
    for (const std::string& rows : row_counts) measure(format, weights, std::stoll(rows));
  }

  void measure(const std::string& format, const std::vector<std::unique_ptr<pf::Weight>>& weights, int64_t M) const {
    std::vector<float> x(static_cast<size_t>(M * K), 0.5f), y(static_cast<size_t>(M * N));
    std::vector<PfCall> calls;
    for (const auto& weight : weights) {
      PfCall call{};
      call.op = device->backend().find_op("linear");
      call.num_inputs = call.num_outputs = 1;
      call.in[0] = {x.data(), M, K, K, PF_F32};
      call.out[0] = {y.data(), M, N, N, PF_F32};
      call.weight = weight->handle();
      calls.push_back(call);
    }
    const PfStep step{};
    const int threads = device->backend().device_threads(device->handle());
    std::vector<double> times, ratios;
    double spent = 0;
    const double ops = 2.0 * static_cast<double>(M * N * K) * static_cast<double>(calls.size());
    while (spent < 0.4 || times.size() < 5) {
      const double probe = probe::int8_gops(threads);
      const double time = probe::seconds([&] {
        device->check(
            device->backend().execute(device->handle(), calls.data(), static_cast<int32_t>(calls.size()), &step),
            "running linear");
      });
      spent += time;
      times.push_back(time);
      ratios.push_back(ops / time / 1e9 / probe);
    }
    std::sort(times.begin(), times.end());
    std::sort(ratios.begin(), ratios.end());
    const double bytes = static_cast<double>(weights[0]->bytes() * weights.size());
    const auto rate = [&](double amount, double quantile) {
      return amount / times[static_cast<size_t>(quantile * static_cast<double>(times.size() - 1))] / 1e9;
    };
    std::printf(
        "%-5s M %4lld  GOP/s best %6.1f median %6.1f p90 slow %6.1f | GB/s best %5.1f median %5.1f | of probe %4.2f\n",
        format.c_str(), static_cast<long long>(M), rate(ops, 0), rate(ops, 0.5), rate(ops, 0.9), rate(bytes, 0),
        rate(bytes, 0.5), ratios[ratios.size() / 2]);
    std::fflush(stdout);
  }
};

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> options = {{"isa", "auto"},
                                                {"threads", "2"},
                                                {"n", "1536"},
                                                {"k", "576"},
                                                {"mbytes", "64"},
                                                {"rows", "1,2,4,8,16,32,128,512"},
                                                {"formats", "f32,f16,bf16,q8_0,q4_0,q4_1"},
                                                {"library", PF_CPU_BACKEND_PATH}};
  if (!read_options(argc, argv, options)) return 2;
  const auto device = std::make_shared<pf::Device>(options["library"], std::stoi(options["threads"]), options["isa"]);
  std::printf("%s, W[%s, %s], %s MB of weights\n", device->backend().device_describe(device->handle()),
              options["n"].c_str(), options["k"].c_str(), options["mbytes"].c_str());
  const Bench bench{device, std::stoll(options["n"]), std::stoll(options["k"]), std::stod(options["mbytes"])};
  for (const std::string& format : split(options["formats"])) bench.run(format, split(options["rows"]));
  return 0;
}
