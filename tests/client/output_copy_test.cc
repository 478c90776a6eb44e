#include "client/output_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace myriad {
namespace {

constexpr absl::Duration kPatience = absl::Milliseconds(20);

// A terminal that the test reads: a pipe or a socket.
class Terminal {
 public:
  explicit Terminal(bool socket) { EXPECT_EQ(socket ? ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends_) : ::pipe(ends_), 0); }
  ~Terminal() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  int fd() const { return ends_[1]; }

  // Until nothing more goes in.
  void Fill() {
    const int flags = ::fcntl(fd(), F_GETFL);
    ::fcntl(fd(), F_SETFL, flags | O_NONBLOCK);
    while (::write(fd(), "x", 1) == 1) {
    }
    EXPECT_EQ(errno, EAGAIN);
    ::fcntl(fd(), F_SETFL, flags);
  }

  // What has come so far.
  std::string Read() {
    const int flags = ::fcntl(ends_[0], F_GETFL);
    ::fcntl(ends_[0], F_SETFL, flags | O_NONBLOCK);
    std::string text;
    char buffer[4096];
    ssize_t count = 0;
    while ((count = ::read(ends_[0], buffer, sizeof(buffer))) > 0) text.append(buffer, count);
    return text;
  }

 private:
  int ends_[2] = {-1, -1};
};

TEST(OutputCopyTest, WhatIsWrittenReachesTerminalAndLog) {
  for (const bool socket : {false, true}) {
    TempDir dir;
    Terminal terminal(socket);
    TerminalWriter writer(terminal.fd());
    auto copy = OutputCopy::Start(&writer, dir.File("log"));
    ASSERT_TRUE(copy.ok()) << copy.status();
    ASSERT_EQ(::write((*copy)->write_fd(), "hello\n", 6), 6);
    copy->reset();
    EXPECT_EQ(terminal.Read(), "hello\n");
    EXPECT_EQ(ReadText(dir.File("log")), "hello\n");
  }
}

// A pager that waits, Ctrl-S: the worker goes on, its log has everything, and the run can end.
TEST(OutputCopyTest, ATerminalThatNobodyReadsHoldsNobodyUp) {
  for (const bool socket : {false, true}) {
    TempDir dir;
    Terminal terminal(socket);
    terminal.Fill();
    const int flags = ::fcntl(terminal.fd(), F_GETFL);
    TerminalWriter writer(terminal.fd(), kPatience);
    auto copy = OutputCopy::Start(&writer, dir.File("log"));
    ASSERT_TRUE(copy.ok()) << copy.status();
    // More than the pipe between holds: it comes through only while it is read.
    const std::string text(300000, 'y');
    ASSERT_EQ(::write((*copy)->write_fd(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    copy->reset();
    EXPECT_EQ(ReadText(dir.File("log")), text);
    EXPECT_EQ(::fcntl(terminal.fd(), F_GETFL), flags) << "who shares the terminal finds it as it was";
  }
}

TEST(TerminalWriterTest, ATerminalThatIsReadAgainShowsWhatComesThen) {
  Terminal terminal(/*socket=*/false);
  terminal.Fill();
  TerminalWriter writer(terminal.fd(), kPatience);
  writer.Write("dropped\n");
  EXPECT_EQ(terminal.Read().find_first_not_of('x'), std::string::npos);
  writer.Write("shown\n");
  EXPECT_EQ(terminal.Read(), "shown\n");
}

TEST(TerminalWriterTest, AFileIsWrittenWhereItStands) {
  TempDir dir;
  const int fd = ::open(dir.File("out").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ASSERT_EQ(::write(fd, "before ", 7), 7);
  TerminalWriter(fd).Write("here");
  ::close(fd);
  EXPECT_EQ(ReadText(dir.File("out")), "before here");
}

}  // namespace
}  // namespace myriad
