#ifndef MYRIAD_CLIENT_STOP_SIGNALS_H_
#define MYRIAD_CLIENT_STOP_SIGNALS_H_

namespace myriad {

// Ctrl-C, a scheduler's SIGTERM and a closed terminal ask the process to stop; what is ignored (nohup) stays ignored. `flags` go to
// sigaction: with SA_RESETHAND the second one ends the process at once. A closed pipe ends nothing any more.
void HandleStopSignals(int flags);

// How often that was asked. Any thread.
int StopRequests();

}  // namespace myriad

#endif  // MYRIAD_CLIENT_STOP_SIGNALS_H_
