#ifndef MYRIAD_TESTS_TESTING_SERVER_TABLE_FILES_H_
#define MYRIAD_TESTS_TESTING_SERVER_TABLE_FILES_H_

#include <filesystem>
#include <set>
#include <string>

#include "server/store/fresh_tables.h"

namespace myriad {

// Paths of the table files in a cold store's folder.
inline std::set<std::string> TableFilesIn(const std::string& folder) {
  std::set<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".sst") paths.insert(entry.path().string());
  }
  return paths;
}

// Those of them that lie beside the store: in the making, or left over.
inline std::set<std::string> FreshTableFilesIn(const std::string& folder) {
  std::set<std::string> fresh;
  for (const std::string& path : TableFilesIn(folder)) {
    if (FreshTables::IsFresh(path)) fresh.insert(path);
  }
  return fresh;
}

}  // namespace myriad

#endif  // MYRIAD_TESTS_TESTING_SERVER_TABLE_FILES_H_
