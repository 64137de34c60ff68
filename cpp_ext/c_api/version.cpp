#include "shortlist/shortlist.h"

int32_t shortlist_abi_version(void) {
  return SHORTLIST_ABI_VERSION;
}

const char* shortlist_version(void) {
  return SHORTLIST_VERSION;
}
