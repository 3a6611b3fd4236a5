#include "ids_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_ids(data, size, IDS_CSV);
}
