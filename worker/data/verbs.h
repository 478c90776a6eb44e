#ifndef MYRIAD_WORKER_DATA_VERBS_H_
#define MYRIAD_WORKER_DATA_VERBS_H_

#include <atomic>
#include <functional>

#include "absl/status/status.h"

namespace CLI {
class App;
}

namespace myriad {

// Adds the verbs `pack`, `check` and `glyphs` with their options and help to `app`. Parsing runs nothing: when the command line names one
// of them, `*run` is set to its run, which the caller calls after parsing; results go to stdout, progress to stderr, and the status says
// what to tell the user (exit 1; CANCELLED: exit 130). `run` and `stop` outlive `app`; setting `*stop` (a signal) ends a verb soon, with
// nothing left behind.
void AddDataVerbs(CLI::App& app, const std::atomic<bool>* stop, std::function<absl::Status()>* run);

}  // namespace myriad

#endif  // MYRIAD_WORKER_DATA_VERBS_H_
