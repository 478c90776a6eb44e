#ifndef MYRIAD_SERVER_STEP_DIGEST_H_
#define MYRIAD_SERVER_STEP_DIGEST_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace myriad {

// A 128-bit digest (XXH3): equal input, equal digest, on every machine and in every version. Not against forgery.
using Digest = std::string;  // 16 bytes, big-endian (XXH's canonical form).

// Digests a sequence of fields. Each field's length counts, so that two sequences with the same bytes and other borders differ.
class Digester {
 public:
  Digester();
  ~Digester();
  Digester& Add(absl::string_view bytes);
  Digester& Add(int64_t value);
  Digester& Add(double value);
  Digest Finish() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace myriad

#endif  // MYRIAD_SERVER_STEP_DIGEST_H_
