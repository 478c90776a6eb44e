#include "client/identity_catalogue.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "client/file_util.h"

namespace myriad {

// All names in one buffer, as the file has them; the index holds ids alone and hashes through the buffer.
struct IdentityCatalogue::State {
  absl::string_view Name(int64_t id) const {
    const size_t begin = starts[id];
    const size_t end = id + 1 < static_cast<int64_t>(starts.size()) ? starts[id + 1] : text.size();
    return absl::string_view(text).substr(begin, end - begin - 1);  // Without the line feed.
  }

  struct Hash {
    using is_transparent = void;
    const State* state;
    size_t operator()(absl::string_view name) const { return absl::Hash<absl::string_view>()(name); }
    size_t operator()(int64_t id) const { return (*this)(state->Name(id)); }
  };
  struct Equal {
    using is_transparent = void;
    const State* state;
    bool operator()(int64_t a, int64_t b) const { return a == b; }
    bool operator()(int64_t id, absl::string_view name) const { return state->Name(id) == name; }
    bool operator()(absl::string_view name, int64_t id) const { return state->Name(id) == name; }
  };

  std::string text;
  std::vector<size_t> starts;  // Where each name begins in `text`.
  absl::flat_hash_set<int64_t, Hash, Equal> index{0, Hash{this}, Equal{this}};
};

IdentityCatalogue::IdentityCatalogue() : state_(std::make_unique<State>()) {}
IdentityCatalogue::~IdentityCatalogue() = default;
IdentityCatalogue::IdentityCatalogue(IdentityCatalogue&&) noexcept = default;
IdentityCatalogue& IdentityCatalogue::operator=(IdentityCatalogue&&) noexcept = default;

absl::StatusOr<IdentityCatalogue> IdentityCatalogue::Load(const std::string& path) {
  const absl::StatusOr<std::string> content = ReadFile(path);
  if (!content.ok()) return content.status();
  return Parse(*content, path);
}

absl::StatusOr<IdentityCatalogue> IdentityCatalogue::Parse(absl::string_view text, const std::string& path) {
  IdentityCatalogue catalogue;
  catalogue.state_->text.reserve(text.size() + 1);
  absl::string_view rest = text;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const absl::string_view name = rest.substr(0, end);
    if (absl::StatusOr<int64_t> id = catalogue.Append(name); !id.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", catalogue.size() + 1, ": ", id.status().message()));
    }
    rest.remove_prefix(end == absl::string_view::npos ? rest.size() : end + 1);
  }
  return catalogue;
}

absl::Status IdentityCatalogue::Save(const std::string& path) const { return WriteFileAtomically(path, state_->text); }

int64_t IdentityCatalogue::size() const { return static_cast<int64_t>(state_->starts.size()); }

absl::StatusOr<int64_t> IdentityCatalogue::Append(absl::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("an identity name is empty");
  if (name.find_first_of(absl::string_view("\t\n\r\0", 4)) != absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat("identity name '", name, "' has a tab, line break or NUL in it"));
  }
  const auto found = state_->index.find(name);
  if (found != state_->index.end()) {
    return absl::AlreadyExistsError(absl::StrCat("identity name '", name, "' is already that of class ", *found));
  }
  const int64_t id = size();
  state_->starts.push_back(state_->text.size());
  absl::StrAppend(&state_->text, name, "\n");
  state_->index.insert(id);
  return id;
}

absl::StatusOr<int64_t> IdentityCatalogue::IdOf(absl::string_view name) const {
  const auto found = state_->index.find(name);
  if (found == state_->index.end()) return absl::NotFoundError(absl::StrCat("no identity is named '", name, "'"));
  return *found;
}

absl::string_view IdentityCatalogue::NameOf(int64_t class_id) const { return state_->Name(class_id); }

absl::string_view IdentityCatalogue::text() const { return state_->text; }

}  // namespace myriad
