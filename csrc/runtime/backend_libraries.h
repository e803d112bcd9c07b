// What a backend may export besides its table: how it uses libraries of its GPU's vendor. One that uses none has no
// such symbol. Functions return as those of the table do (backend.h), and `last_error` is the table's.
#pragma once
#include "backend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct PfLibraries {
  // Lets the device use a library ("cublaslt") where that is faster, from the first of `paths` that loads; before the
  // device's first program. A library that can't be used is no failure: `report` says why.
  int (*use)(PfDevice* device, const char* name, const char* const* paths, int32_t num_paths);
  // JSON: for each library that was asked for {"refused": why}, or what was loaded and what it does. The text lives
  // until the thread's next call.
  int (*report)(PfDevice* device, const char** out);
} PfLibraries;

const PfLibraries* pf_backend_libraries(void);

#ifdef __cplusplus
}
#endif
