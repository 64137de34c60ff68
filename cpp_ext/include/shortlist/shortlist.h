/* The C ABI of libshortlist. C99, no C++ types, no exceptions across it. */
#ifndef SHORTLIST_H
#define SHORTLIST_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Grows with every addition to this header. A library serves every host that was compiled with a
   header of the same or a smaller version, as long as its soname is the same. */
#define SHORTLIST_ABI_VERSION 1

#define SHORTLIST_API __attribute__((visibility("default")))

/* The SHORTLIST_ABI_VERSION of the library itself; a smaller one than the header's is too old. */
SHORTLIST_API int32_t shortlist_abi_version(void);

/* The release, for example "0.1.0". Valid for ever. */
SHORTLIST_API const char* shortlist_version(void);

#ifdef __cplusplus
}
#endif

#endif /* SHORTLIST_H */
