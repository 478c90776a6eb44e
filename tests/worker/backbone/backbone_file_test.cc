#include "worker/backbone/backbone_file.h"

#include <memory>

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "client/safetensors.h"

namespace myriad {
namespace {

std::unique_ptr<Backbone> Make(int width, uint64_t seed) {
  BackboneSpec spec;
  spec.width = width;
  spec.image_size = 32;
  return *MakeBackbone(spec, seed);
}

std::string Path(const std::string& name) { return testing::TempDir() + name; }

TEST(BackboneFileTest, ALoadedBackboneEmbedsAsTheSavedOneDid) {
  auto saved = Make(8, 1), loaded = Make(8, 2);
  const at::Tensor images = at::rand({4, 1, 32, 32});
  ASSERT_TRUE(saved->Forward(images).ok());  // Moves the running statistics, which must come along.
  ASSERT_TRUE(SaveBackbone(*saved, {{"steps", "7"}}, Path("a.safetensors")).ok());
  const absl::Status status = LoadBackbone(Path("a.safetensors"), loaded.get());
  ASSERT_TRUE(status.ok()) << status;
  saved->SetTraining(false);
  loaded->SetTraining(false);
  EXPECT_TRUE(at::equal(*saved->Forward(images), *loaded->Forward(images)));
  EXPECT_EQ((*SafetensorsReader::Open(Path("a.safetensors")))->metadata().at("steps"), "7");
}

// Weights lie with their channels last in memory; the file has them as every other program expects them.
TEST(BackboneFileTest, TensorsAreRowMajorInTheFile) {
  auto backbone = Make(8, 1);
  ASSERT_TRUE(SaveBackbone(*backbone, {}, Path("b.safetensors")).ok());
  auto reader = SafetensorsReader::Open(Path("b.safetensors"));
  ASSERT_TRUE(reader.ok()) << reader.status();
  const std::vector<NamedTensor> state = backbone->State();
  ASSERT_EQ((*reader)->tensors().size(), state.size());
  for (const NamedTensor& entry : state) {
    auto view = (*reader)->Find(entry.name);
    ASSERT_TRUE(view.ok()) << view.status();
    EXPECT_EQ(view->info->shape, entry.tensor.sizes().vec());
    const at::Tensor plain = entry.tensor.detach().contiguous();
    EXPECT_EQ(absl::string_view(view->bytes.data(), view->bytes.size()),
              absl::string_view(static_cast<const char*>(plain.const_data_ptr()), plain.nbytes()))
        << entry.name;
  }
}

TEST(BackboneFileTest, AFileOfAnotherNetworkIsRefusedAndNothingChanges) {
  auto narrow = Make(8, 1), wide = Make(12, 2);
  ASSERT_TRUE(SaveBackbone(*narrow, {}, Path("c.safetensors")).ok());
  const at::Tensor before = wide->State()[0].tensor.detach().clone();
  const absl::Status status = LoadBackbone(Path("c.safetensors"), wide.get());
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_NE(status.message().find("conv1.weight"), std::string::npos) << status;
  EXPECT_TRUE(at::equal(before, wide->State()[0].tensor));
  EXPECT_TRUE(absl::IsNotFound(LoadBackbone(Path("none.safetensors"), wide.get())));
}

}  // namespace
}  // namespace myriad
