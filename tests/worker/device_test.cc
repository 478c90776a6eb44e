#include "worker/device.h"

#include <gtest/gtest.h>

namespace myriad {
namespace {

TEST(DeviceTest, TheCpuIsAlwaysThere) {
  EXPECT_EQ(*ChooseDevice("cpu", 0), c10::Device(c10::kCPU));
  EXPECT_EQ(*ChooseDevice("cpu", 99), c10::Device(c10::kCPU));
}

TEST(DeviceTest, AnotherWordIsRefusedWithTheChoices) {
  const absl::Status status = ChooseDevice("gpu", 0).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_NE(status.message().find("\"gpu\"; it must be auto, cpu or cuda"), std::string::npos) << status;
}

// More workers than any machine has GPUs, or a build without CUDA: one line either way.
TEST(DeviceTest, CudaWithoutAGpuForTheWorkerIsRefused) {
  const absl::Status status = ChooseDevice("cuda", 1000).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(status.message().find('\n'), std::string::npos);
}

#ifndef MYRIAD_CUDA
TEST(DeviceTest, AutoIsTheCpuInABuildWithoutCuda) { EXPECT_EQ(*ChooseDevice("auto", 0), c10::Device(c10::kCPU)); }
#endif

}  // namespace
}  // namespace myriad
