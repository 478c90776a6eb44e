#ifndef MYRIAD_SERVER_OPEN_FILES_H_
#define MYRIAD_SERVER_OPEN_FILES_H_

#include <cstdint>

namespace myriad {

// Lets this process have as many files open as the system allows it to ask for (ulimit -Hn); returns how many that are.
int64_t RaiseOpenFileLimit();

}  // namespace myriad

#endif  // MYRIAD_SERVER_OPEN_FILES_H_
