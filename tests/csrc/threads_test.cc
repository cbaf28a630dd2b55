// SPDX-License-Identifier: Apache-2.0
// What threads share, for ThreadSanitizer: a pipeline with a state a thread and plans by rate, loops that are shared out, the choice of
// kernels. Each thread must get the bits that one alone gets.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "testing.h"
#include "zoo/isa.h"
#include "zoo/pipeline.h"

namespace {

constexpr int kThreads = 4, kRates = 20;  // more rates than an op keeps plans of

// On kThreads threads at once.
template <class Work>
void Together(const Work& work) {
  std::vector<std::thread> threads;
  for (int k = 0; k < kThreads; ++k) threads.emplace_back(work, k);
  for (std::thread& t : threads) t.join();
}

struct Shared {
  const char* name;
  std::vector<zoo::OpDesc> ops;
  zoo::DType dtype;
  std::vector<int64_t> dims;  // of the input; its rate: 100 Hz and more
};

void PrintTo(const Shared& s, std::ostream* out) { *out << s.name; }

const std::vector<Shared> kShared = {
    {"audio", {{"resample", {{"rate", int64_t{160}}}}, {"fit", {{"length", int64_t{700}}}}}, zoo::DType::kF32, {600}},
    {"eeg",
     {{"filter", {{"freqs", std::vector<double>{4, 40}}}}, {"bandpower", {{"window_length", int64_t{64}}, {"hop_length", int64_t{32}}}}},
     zoo::DType::kF64,
     {300, 4}},
    {"faces", {{"resize_normalize", {{"height", int64_t{24}}, {"width", int64_t{20}}}}}, zoo::DType::kU8, {33, 31, 3}},
    {"video", {{"motion", {}}}, zoo::DType::kU8, {9, 16, 12, 3}},
    {"flow", {{"flow_farneback", {{"iterations", int64_t{1}}}}}, zoo::DType::kU8, {3, 24, 20, 1}},
};

// Values that every type can hold, of one seed the same.
std::vector<unsigned char> Input(const Shared& s, size_t count) {
  std::vector<unsigned char> data(count * zoo::SizeOf(s.dtype));
  for (size_t i = 0; i < count; ++i) {
    const double v = std::sin(static_cast<double>(i) * 0.37) + 0.3 * std::sin(static_cast<double>(i * i % 101));
    if (s.dtype == zoo::DType::kU8) data[i] = static_cast<unsigned char>(100 + 70 * v);
    else if (s.dtype == zoo::DType::kF32) reinterpret_cast<float*>(data.data())[i] = static_cast<float>(v);
    else reinterpret_cast<double*>(data.data())[i] = v;
  }
  return data;
}

class SharedPipeline : public testing::TestWithParam<Shared> {};
INSTANTIATE_TEST_SUITE_P(Threads, SharedPipeline, testing::ValuesIn(kShared), [](const auto& info) { return info.param.name; });

TEST_P(SharedPipeline, GivesEachThreadTheSameBits) {
  const Shared& s = GetParam();
  zoo::ConstView in;
  in.dtype = s.dtype;
  in.extent.rank = static_cast<int32_t>(s.dims.size());
  std::copy(s.dims.begin(), s.dims.end(), in.extent.dim);
  in.range = {0, s.dims[0]};
  const std::vector<unsigned char> data = Input(s, static_cast<size_t>(in.extent.count()));
  in.data = data.data();
  // an op's dimensions beyond the first are those that it is built for
  std::vector<int64_t> shape = s.dims;
  shape[0] = -1;
  const auto make = [&] { return Take(zoo::Pipeline::Create(s.ops, "", s.dims.size() == 3 ? std::vector<int64_t>{} : shape)); };
  const auto run = [&in](const zoo::Pipeline& p, int rate, zoo::Pipeline::State& state) {
    zoo::ConstView view = in;
    view.extent.rate = 100 + rate;
    zoo::Extent extent;
    zoo::Status status = p.OutputExtent(view.extent, &extent);
    EXPECT_TRUE(status.ok()) << status.message();
    std::vector<unsigned char> out(status.ok() ? static_cast<size_t>(extent.count()) * zoo::SizeOf(p.port(p.size()).dtype) : 0);
    if (status.ok()) status = p.Run(view, out.data(), state);
    EXPECT_TRUE(status.ok()) << status.message();
    return out;
  };
  std::vector<std::vector<unsigned char>> alone;
  {
    const zoo::Pipeline p = make();
    const auto state = Take(p.NewState());
    for (int rate = 0; rate < kRates; ++rate) alone.push_back(run(p, rate, *state));
  }
  EXPECT_FALSE(alone[0].empty());
  const zoo::Pipeline shared = make();
  Together([&](int k) {
    const auto state = shared.NewState();
    ASSERT_TRUE(state.ok());
    for (int i = 0; i < 3 * kRates; ++i) {
      const int rate = (i + 5 * k) % kRates;
      EXPECT_EQ(run(shared, rate, *state.value()), alone[static_cast<size_t>(rate)]) << "thread " << k << ", rate " << 100 + rate;
    }
  });
}

TEST(Threads, ALoopSharedOut) {
  for (int round = 0; round < 50; ++round) {
    std::vector<int> done(200);  // one each: no two threads write the same
    const zoo::Status all = zoo::ParallelFor(200, kThreads, [&](int64_t i) {
      ++done[static_cast<size_t>(i)];
      return zoo::Status::Ok();
    });
    EXPECT_TRUE(all.ok());
    EXPECT_EQ(done, std::vector<int>(200, 1));
    const zoo::Status failed = zoo::ParallelFor(200, kThreads, [&](int64_t i) {
      return i < 20 ? zoo::Status::Ok() : zoo::Status(zoo::StatusCode::kInvalidArgument, std::to_string(i));
    });
    EXPECT_EQ(failed.message(), "20") << "of several failures the first is told";
  }
}

TEST(Threads, ChoiceOfKernels) {
  const std::vector<std::string> isas = zoo::SupportedIsas();
  std::atomic<int> unknown{0};
  Together([&](int k) {
    for (int i = 0; i < 1000; ++i) {
      if (k == 0 && !zoo::SetDefaultIsa(isas[static_cast<size_t>(i) % isas.size()]).ok()) ++unknown;
      const auto kernels = zoo::SelectKernels();
      const auto name = zoo::DefaultIsa();
      if (!kernels.ok() || !name.ok() || std::find(isas.begin(), isas.end(), name.value()) == isas.end()) ++unknown;
    }
  });
  EXPECT_EQ(unknown, 0);
  EXPECT_TRUE(zoo::SetDefaultIsa("").ok());
}

}  // namespace
