#ifndef MYRIAD_HEAD_SIMD_H_
#define MYRIAD_HEAD_SIMD_H_

// Compiles a function once for each x86-64 level and picks one when the program is loaded. Sanitizers start after the loader has
// called the code that picks, so there the plain version stands alone.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define MYRIAD_SIMD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MYRIAD_SIMD_CLONES
#endif

#endif  // MYRIAD_HEAD_SIMD_H_
