#include "client/progress.h"

#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

// What a progress of `total` rows shows that does `rows` every `interval`, `times` times.
std::string Shown(bool is_terminal, int64_t total, int64_t rows, absl::Duration interval, int times) {
  TempDir dir;
  absl::Time now = absl::UnixEpoch();
  const int fd = ::open(dir.File("out").c_str(), O_WRONLY | O_CREAT, 0600);
  {
    Progress::Options options;
    options.fd = fd;
    options.is_terminal = is_terminal;
    options.now = [&] { return now; };
    Progress progress("importing", total, options);
    for (int i = 0; i < times; ++i) {
      now += interval;
      progress.Add(rows);
    }
  }
  ::close(fd);
  return ReadText(dir.File("out"));
}

TEST(ProgressTest, TextTellsRateAndTimeLeft) {
  EXPECT_EQ(ProgressText("importing", 250, 1000, absl::Seconds(10)), "importing  250 of 1000 rows  25%  25 rows/s  0:30 left");
  EXPECT_EQ(ProgressText("importing", 0, 1000, absl::Seconds(10)), "importing  0 of 1000 rows  0%");
  EXPECT_EQ(ProgressText("importing", 10, 1000000, absl::Seconds(1)), "importing  10 of 1000000 rows  0%  10 rows/s  27:46:39 left");
  EXPECT_EQ(ProgressText("importing", 0, 0, absl::ZeroDuration()), "importing  0 of 0 rows");
}

TEST(ProgressTest, ALogGetsALineNowAndThenAndATerminalOneThatIsWrittenAnew) {
  EXPECT_EQ(Shown(false, 100, 10, absl::Seconds(4), 6),
            "importing  30 of 100 rows  30%  2 rows/s  0:28 left\nimporting  60 of 100 rows  60%  2 rows/s  0:16 left\n");
  EXPECT_EQ(Shown(true, 4, 2, absl::Seconds(1), 2),
            "\rimporting  2 of 4 rows  50%  2 rows/s  0:01 left\rimporting  4 of 4 rows  100%  2 rows/s  0:00 left\n");
}

TEST(ProgressTest, ShortWorkShowsNothing) {
  EXPECT_EQ(Shown(false, 100, 50, absl::Seconds(4), 2), "");
  EXPECT_EQ(Shown(true, 100, 50, absl::Milliseconds(400), 2), "");
}

}  // namespace
}  // namespace myriad
