#include "client/stop_signals.h"

#include <signal.h>

#include <atomic>
#include <initializer_list>

namespace myriad {
namespace {

// Signal handlers reach nothing else.
std::atomic<int> stop_requests{0};

void CountStopRequest(int) { stop_requests.fetch_add(1); }

}  // namespace

void HandleStopSignals(int flags) {
  struct sigaction action = {};
  action.sa_handler = CountStopRequest;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  for (int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before = {};
    sigaction(number, nullptr, &before);
    if (before.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);
  }
  signal(SIGPIPE, SIG_IGN);  // A closed pipe must not end the run in mid-step; its log goes on.
}

int StopRequests() { return stop_requests.load(); }

}  // namespace myriad
